import { existsSync } from 'node:fs'
import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import { Lab } from '../lab/lab.ts'
import { poll } from '../lab/poll.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { objectOf } from '../wal/segments.ts'
import { answerOf, backUp, failureOf, listedBackups, type RestoreAnswer, recover } from './commands.ts'

interface Retained {
  backups: { id: string; stays: boolean; reason: string }[]
  warnings: string[]
  removedBackups?: number
  removedWal?: number
}

let lab: Lab
let backups: BackupRecord[]

const catalogFile = () => join(lab.repository, 'main/catalog.json')

describe.skipIf(!findPrograms() && !process.env.CI)('a repository with four backups', () => {
  beforeAll(async () => {
    lab = await Lab.create()
    await lab.cluster.sql('CREATE TABLE rounds (n int)')
    backups = []
    for (let n = 1; n <= 4; n++) {
      await lab.cluster.sql(`INSERT INTO rounds VALUES (${n})`)
      backups.push(await backUp(lab, ['--label', `round ${n}`]))
    }
    await lab.cluster.archiveWal()
  })
  beforeEach((context) => void requireServer(context))
  afterAll(() => lab?.[Symbol.asyncDispose]())

  test('lists them, and shows one with its objects', async () => {
    expect(await listedBackups(lab)).toEqual(backups.map(({ id }) => id))
    // Where else it was stored is in no record.
    const { repositories: _, ...record } = backups[1] as BackupRecord & { repositories: unknown }
    expect(await answerOf(lab, ['show', record.id])).toMatchObject(record)
    const { stdout } = await lab.pgrecall(['list'])
    for (const { id, label } of backups) {
      expect(stdout).toContain(id)
      expect(stdout).toContain(label)
    }
    expect(await failureOf(lab, ['show', '20200101T000000Z-full'])).toMatchObject({ exitCode: 1 })
  })

  test.each<[string, () => Promise<void>]>([
    ['is missing', () => rm(catalogFile())],
    ['is damaged', () => writeFile(catalogFile(), '{"format": 1, "backups": [{"id"')],
    ['is out of date', () => writeFile(catalogFile(), '{"format": 1, "backups": []}')],
  ])(
    'needs no catalog.json: when it %s, list shows the same and rebuild makes it again',
    async (_what, spoil) => {
      const before = await answerOf(lab, ['list'])
      await spoil()
      expect(await answerOf(lab, ['list'])).toEqual(before)
      await answerOf(lab, ['catalog', 'rebuild'])
      const rebuilt = JSON.parse(await readFile(catalogFile(), 'utf8'))
      expect(rebuilt.backups.map(({ id }: { id: string }) => id)).toEqual(backups.map(({ id }) => id))
      expect(await answerOf(lab, ['list'])).toEqual(before)
    },
  )

  test('keeps what a running restore reads, until that is over', async () => {
    const oldest = backups[0]!
    const target = join(lab.scratch.path, 'pinned')
    const restore = await lab.startPgrecall(['restore', oldest.id, '--immediate', '-D', target])
    await poll(() => existsSync(join(lab.repository, 'main/pins')) && existsSync(target), {
      what: 'the restore to pin its backup',
      everyMs: 2,
    })
    restore.process.kill('SIGSTOP')
    const [plan] = await answerOf<Retained[]>(lab, ['retention', '--full', '3'])
    expect(plan!.backups[0]).toMatchObject({ id: oldest.id, stays: true })
    expect(plan!.backups[0]!.reason).toContain('in use: restore')
    expect(plan!.removedBackups).toBe(0)
    restore.process.kill('SIGCONT')
    expect((await restore.process).exitCode).toBe(0)
    expect(existsSync(join(lab.repository, 'main/pins'))).toBe(false)
    const server = await lab.adopt(target, { settings: { archive_mode: 'off' } })
    await server.start()
    await server.waitForPaused()
    expect(await server.sql('SELECT n FROM rounds')).toEqual([{ n: 1 }])
  })

  test('changes nothing with --dry-run, and then removes what that said, with the WAL before', async () => {
    const before = await everything()
    const [dry] = await answerOf<Retained[]>(lab, ['retention', '--full', '2', '--dry-run'])
    expect(dry!.backups.map(({ stays }) => stays)).toEqual([false, false, true, true])
    expect(await everything()).toEqual(before)

    const [done] = await answerOf<Retained[]>(lab, ['retention', '--full', '2'])
    expect(done).toMatchObject({ backups: dry!.backups, removedBackups: 2 })
    expect(await listedBackups(lab)).toEqual([backups[2]!.id, backups[3]!.id])
    expect(await readdir(join(lab.repository, 'main/backups'))).toEqual([backups[2]!.id, backups[3]!.id])
    expect(existsSync(objectOf(lab, backups[1]!.start.walFile))).toBe(false)
    expect(existsSync(objectOf(lab, backups[2]!.start.walFile))).toBe(true)

    const oldest = await recover(lab, 'third', [backups[2]!.id, '--immediate'])
    await oldest.waitForPaused()
    expect(await oldest.sql('SELECT max(n) AS n FROM rounds')).toEqual([{ n: 3 }])
    const through = await recover(lab, 'third-to-the-end', [backups[2]!.id])
    await through.waitForPromotion()
    expect(await through.sql('SELECT max(n) AS n FROM rounds')).toEqual([{ n: 4 }])
  })

  test('does not remove anything without a rule', async () => {
    expect(await failureOf(lab, ['retention'])).toMatchObject({ exitCode: 3, kind: 'config' })
  })

  test('with a full one that verify found damaged holds on to the sound one, until there is another', async () => {
    const [sound, damaged] = [backups[2]!, backups[3]!]
    const upon = await backUp(lab, ['--type', 'incr'])
    expect(upon.parent?.id).toBe(damaged.id)
    await lab.cluster.archiveWal()
    const shard = `main/backups/${damaged.id}/base.0001.tar.zst`
    await flipBit(join(lab.repository, shard))
    expect((await lab.pgrecall(['verify'])).exitCode).toBe(12)

    const spare = join(lab.scratch.path, 'spare')
    const chosen = await lab.pgrecall(['restore', '-D', spare, '--dry-run'])
    expect(chosen.stdout).toContain(`Backup    ${sound.id}`)
    expect(chosen.stderr).toContain(`the newer backup ${upon.id} is passed over: it is known to be damaged`)
    const asked = await answerOf<RestoreAnswer>(lab, ['restore', upon.id, '-D', spare, '--dry-run'])
    expect(asked.plan.warnings[0]).toMatch(`backup ${upon.id} is known to be damaged (${shard}: `)
    expect(await failureOf(lab, ['restore', upon.id, '-D', spare])).toMatchObject({
      kind: 'damaged',
      hint: expect.stringContaining(`instead can serve ${sound.id}`),
    })

    const [kept] = await answerOf<Retained[]>(lab, ['retention', '--full', '1'])
    expect(kept).toMatchObject({
      removedBackups: 0,
      backups: [{ id: sound.id, reason: 'one of the newest 1' }, {}, {}],
    })
    expect(kept!.warnings[0]).toMatch(new RegExp(`backup ${damaged.id} is known .*verify --repair`))
    const status = await lab.pgrecall(['status'])
    expect(status.stdout).toContain(`backup ${upon.id} cannot be recovered: ${shard} is damaged`)

    const fresh = await backUp(lab, ['--type', 'auto'])
    expect(fresh).toMatchObject({ type: 'full', warnings: [expect.stringContaining(`${upon.id} is known`)] })
    await answerOf(lab, ['retention', '--full', '1'])
    expect(await listedBackups(lab)).toEqual([fresh.id])
  })
})

async function flipBit(file: string): Promise<void> {
  const bytes = await readFile(file)
  bytes[bytes.length >> 1]! ^= 1
  await writeFile(file, bytes)
}

/** Every file of the repository with its size and time. */
async function everything(): Promise<string[]> {
  const entries = await readdir(lab.repository, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
  return Promise.all(
    files.sort().map(async (file) => {
      const { size, mtimeMs } = await stat(file)
      return `${file} ${size} ${mtimeMs}`
    }),
  )
}
