import { join } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import { backUp, failureOf, recover } from '../backup/commands.ts'
import { backupFolder, inspect } from '../crash/repository.ts'
import { tableChecksums } from '../lab/checksums.ts'
import { cleanEnvironment } from '../lab/environment.ts'
import { gatewayMissing } from '../lab/gateway.ts'
import type { Lab, LabOptions } from '../lab/lab.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { asLabUser } from '../lab/user.ts'
import { type Answer, consolidated, labWithTables, spacesOf } from './chains.ts'

const options = { timeout: 300_000 }

describe.skipIf(!findPrograms() && !process.env.CI)('a consolidation', () => {
  let lab: Lab
  beforeEach((context) => void requireServer(context))
  afterEach(() => lab?.[Symbol.asyncDispose]())

  /** A full backup and an incremental one. */
  async function start(more: LabOptions, args: string[] = []): Promise<BackupRecord[]> {
    lab = await labWithTables(more)
    const full = await backUp(lab, args)
    await lab.cluster.sql('UPDATE rows SET id = -id WHERE id % 1000 = 1; DROP TABLE in_two')
    return [full, await backUp(lab, ['--type', 'incr', ...args])]
  }

  test.each(['gzip', 'none'])('of %s can be restored by hand', options, async (method) => {
    await start({}, ['--compression', method])
    const before = await tableChecksums(lab.cluster)
    const { record } = await consolidated(lab)
    expect(record!.codec).toMatch(method)
    expect(await tablesByHand(record!)).toEqual(before)
  })

  test('of standalone, encrypted links carries the newest WAL, encrypted as well', options, async () => {
    await start({ archive: false, encrypted: true }, ['--standalone'])
    const before = await tableChecksums(lab.cluster)
    const { record } = await consolidated(lab)
    expect(record).toMatchObject({ standalone: true, recipients: [expect.stringMatching(/^age1/)] })
    const names = record!.objects.map(({ name }) => name)
    expect(new Set(names).size).toBe(names.length)
    expect(names.filter((name) => !name.endsWith('.age'))).toEqual(['RESTORE.txt'])
    const wal = record!.objects.filter(({ kind, group }) => kind === 'shard' && group === 'wal')
    expect(wal).toMatchObject([{ name: 'wal.0001.tar.zst.age' }])
    expect(await tablesByHand(record!)).toEqual(before)
    await using server = await recover(lab, 'full', [record!.id, ...spacesOf(lab, 'full')])
    expect(await tableChecksums(server)).toEqual(before)
  })

  /** Runs its RESTORE.txt, and a server on what that makes. */
  async function tablesByHand(record: BackupRecord) {
    const directory = join(lab.scratch.path, 'by-hand')
    const places = record.tablespaces.map(({ oid, name }) => [
      `TABLESPACE_${oid}`,
      join(lab.scratch.path, `by-hand-${name}`),
    ])
    const identity = join(lab.scratch.path, 'identity.txt')
    const variables = { DATA: directory, IDENTITY: identity, ...Object.fromEntries(places) }
    await execa('sh', [join(backupFolder(lab, record.id), 'RESTORE.txt')], {
      ...asLabUser,
      cwd: lab.scratch.path,
      env: cleanEnvironment(lab.scratch.path, variables),
      extendEnv: false,
    })
    await lab.cluster.run('pg_verifybackup', ['-n', '-e', directory])
    await using server = await lab.adopt(directory, { settings: { archive_mode: 'off' } })
    await server.start()
    await server.waitForPromotion()
    // Awaited here, while the server still runs.
    return await tableChecksums(server)
  }

  test('is made in each repository that has the whole chain', options, async () => {
    const [full] = await start({ repositories: { local: 'local', second: 'local' } })
    await lab.repositories.second!.storage.remove(`main/backups/${full!.id}/backup.json`)
    const { exitCode, stdout, stderr } = await lab.pgrecall(['consolidate', '--json'])
    expect(stderr).toContain(`repository "second": `)
    const [here, there] = JSON.parse(stdout) as [Answer, Answer]
    expect(here).toMatchObject({ repository: 'local', wasThere: false })
    expect(there).toMatchObject({
      repository: 'second',
      error: { kind: 'damaged', message: expect.stringContaining(`${full!.id}, which is missing`) },
    })
    expect(exitCode).toBe(9)
    expect(await inspect(lab)).toMatchObject({ problems: [] })
  })

  test.skipIf(gatewayMissing())('can be in a bucket', options, async () => {
    await start({ repositories: { bucket: 's3' } })
    const before = await tableChecksums(lab.cluster)
    const { record } = await consolidated(lab)
    await using server = await recover(lab, 'from-bucket', [record!.id, ...spacesOf(lab, 'from-bucket')])
    expect(await tableChecksums(server)).toEqual(before)
  })

  test('of a cluster without a backup is refused', options, async () => {
    lab = await labWithTables()
    expect(await failureOf(lab, ['consolidate'])).toMatchObject({ kind: 'absent' })
  })
})
