import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { backupPrefix } from '../../src/catalog/layout.ts'
import { type LogicalRecord, readLogicalRecord } from '../../src/catalog/logical-record.ts'
import { ObjectSum } from '../../src/catalog/object-sum.ts'
import { encodeRecord } from '../../src/catalog/record-file.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import type { VerifiedBackup } from '../../src/verification/verify-repository.ts'
import { answerOf, labFolder } from '../backup/commands.ts'
import { Lab } from '../lab/lab.ts'
import { requireServer } from '../lab/programs.ts'

type Answer = [{ backups: VerifiedBackup[] }]

let lab: Lab
let record: LogicalRecord
beforeAll(async () => {
  lab = await Lab.create()
  await lab.cluster.sql('CREATE TABLE t (i int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000)')
  record = await answerOf<LogicalRecord>(lab, ['backup', '--method', 'logical'])
})
beforeEach((context) => void requireServer(context))
afterAll(() => lab?.[Symbol.asyncDispose]())

const fileOf = (name: string) => join(lab.repository, backupPrefix('main', record.id), name)
const dump = () => record.objects.find(({ kind }) => kind === 'dump')!

async function verify(): Promise<VerifiedBackup & { exitCode: number | undefined }> {
  const { exitCode, stdout } = await lab.pgrecall(['verify', 'latest', '--json'])
  const [look] = JSON.parse(stdout) as Answer
  return { exitCode, ...look.backups[0]! }
}

/** Runs with other bytes in the dump. */
async function withDump(change: (bytes: Buffer) => Buffer, work: () => Promise<void>): Promise<void> {
  const path = fileOf(dump().name)
  const whole = await readFile(path)
  await writeFile(path, change(whole))
  try {
    await work()
  } finally {
    await writeFile(path, whole)
  }
}

test('a logical backup that is as it was stored is sound, and its archives can be read', async () => {
  const found = await verify()
  expect(found).toMatchObject({ exitCode: 0, id: record.id, faults: [], objects: record.objects.length })
  expect(found.bytes).toBe(record.storedBytes)
  expect(found).not.toHaveProperty('unlisted')
})

test('one byte of a dump that is another is found', async () => {
  const flipped = (bytes: Buffer) => Buffer.concat([bytes.subarray(0, -1), Buffer.from([bytes.at(-1)! ^ 1])])
  await withDump(flipped, async () => {
    const { exitCode, faults } = await verify()
    expect(exitCode).toBe(12)
    expect(faults).toEqual([
      {
        key: backupPrefix('main', record.id) + dump().name,
        reason: 'its bytes are not those that were stored',
      },
    ])
  })
})

test('what has the right sum and is no archive is found', async () => {
  const storage = new LocalStorage(lab.repository)
  const key = `${backupPrefix('main', record.id)}backup.json`
  const stored = (await readLogicalRecord(storage, 'main', record.id))!
  const whole = await readFile(join(lab.repository, key))
  const nonsense = Buffer.from('nonsense that is no archive of pg_dump'.repeat(100))
  const sum = new ObjectSum(false)
  sum.push(nonsense)
  const objects = stored.objects.map((each) => (each.kind === 'dump' ? { ...each, ...sum.end() } : each))
  await withDump(
    () => nonsense,
    async () => {
      await writeFile(join(lab.repository, key), encodeRecord({ ...stored, objects }))
      try {
        const { exitCode, faults } = await verify()
        expect(exitCode).toBe(12)
        expect(faults).toMatchObject([{ reason: expect.stringContaining('pg_restore cannot read it') }])
      } finally {
        await writeFile(join(lab.repository, key), whole)
      }
    },
  )
})

test('archives that were staged are opened too', async () => {
  const staging = await labFolder(join(lab.scratch.path, 'staging'))
  const staged = await answerOf<LogicalRecord>(lab, ['backup', '--method', 'logical', '--staging', staging])
  const folder = join(lab.repository, backupPrefix('main', staged.id))
  const { name, database } = staged.objects.find(({ archive }) => archive === 'directory')!
  const [look] = await answerOf<Answer>(lab, ['verify', staged.id])
  expect(look.backups).toMatchObject([{ faults: [] }])
  expect(look.backups[0]).not.toHaveProperty('unlisted')
  // With another number of things in the record, which proves that they were counted.
  const path = join(folder, 'backup.json')
  const whole = await readFile(path)
  const stored = (await readLogicalRecord(new LocalStorage(lab.repository), 'main', staged.id))!
  const databases = stored.databases.map((each) =>
    each.oid === database ? { ...each, contents: { ...each.contents, ODD: 1 } } : each,
  )
  await writeFile(path, encodeRecord({ ...stored, databases }))
  const { exitCode, stdout } = await lab.pgrecall(['verify', staged.id, '--json'])
  await writeFile(path, whole)
  expect(exitCode).toBe(12)
  expect((JSON.parse(stdout) as Answer)[0].backups[0]!.faults).toMatchObject([
    { key: expect.stringContaining(name), reason: expect.stringContaining('its table of contents has') },
  ])
})
