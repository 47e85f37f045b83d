import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type TableChecksum, tableChecksums } from '../lab/checksums.ts'
import { Lab } from '../lab/lab.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { asLabUser, giveToLabUser } from '../lab/user.ts'
import { expectClean } from './clean.ts'
import { answerOf, backUp, failureOf, type RestoreAnswer, recover, restoreTo } from './commands.ts'

const COLD = ['--method', 'cold']

describe.skipIf(!findPrograms() && !process.env.CI)('a cold backup', () => {
  let lab: Lab
  let before: TableChecksum[]

  beforeAll(async () => {
    lab = await Lab.create()
    const place = join(lab.scratch.path, 'space')
    await mkdir(place, { mode: 0o700 })
    await giveToLabUser(place)
    const { cluster } = lab
    await cluster.sql(`CREATE TABLESPACE space LOCATION '${place}'`)
    await cluster.sql(
      'CREATE TABLE t TABLESPACE space AS SELECT n, md5(n::text) FROM generate_series(1, 5000) AS n',
    )
    await cluster.pgbench(['--initialize', '--scale=1', '--quiet'])
    before = await tableChecksums(cluster)
  })
  beforeEach((context) => void requireServer(context))
  afterAll(() => lab?.[Symbol.asyncDispose]())

  test('is refused while the server runs, and after a crash', async () => {
    expect(await failureOf(lab, ['backup', ...COLD])).toMatchObject({ exitCode: 5, kind: 'refused' })
    await lab.cluster.stop('immediate')
    const failure = await failureOf(lab, ['backup', ...COLD])
    expect(failure).toMatchObject({ exitCode: 5, kind: 'refused' })
    expect(failure.message).toContain('not shut down in order')
    await lab.cluster.start()
  })

  test('restores without any WAL, and opens as it was', async () => {
    await lab.cluster.stop()
    const record = await backUp(lab, COLD)
    expect(record).toMatchObject({ method: 'cold', standalone: true, damagedPages: 0 })
    const elsewhere = [
      '--tablespace',
      `${join(lab.scratch.path, 'space')}=${join(lab.scratch.path, 'space2')}`,
    ]
    const { plan } = await answerOf<RestoreAnswer>(lab, [
      'restore',
      '--dry-run',
      '-D',
      '/nowhere',
      ...elsewhere,
    ])
    expect(plan.recovers).toBe(false)
    const directory = await restoreTo(lab, 'plain', [...elsewhere, '--archive-mode', 'off'])
    await lab.cluster.run('pg_verifybackup', ['--no-parse-wal', directory])
    const server = await lab.adopt(directory)
    await server.start()
    expect(server.logText()).toContain('database system was shut down at')
    expect(await tableChecksums(server)).toEqual(before)
    const [row] = await server.sql('SELECT timeline_id AS timeline FROM pg_control_checkpoint()')
    expect(row).toEqual({ timeline: 1 })
    await expectClean(server)
  })

  test('restores by hand', async () => {
    const record = await backUp(lab, COLD)
    const directory = join(lab.scratch.path, 'by-hand')
    const script = join(lab.repository, 'main/backups', record.id, 'RESTORE.txt')
    const space = record.tablespaces[0]!.oid
    await execa('sh', [script], {
      ...asLabUser,
      env: { DATA: directory, [`TABLESPACE_${space}`]: join(lab.scratch.path, 'space3') },
    })
    const server = await lab.adopt(directory, { settings: { archive_mode: 'off' } })
    await server.start()
    expect(await tableChecksums(server)).toEqual(before)
    await server.stop()
  })

  test('goes on from there with the archive, when the server did', async () => {
    await lab.cluster.start()
    await lab.cluster.sql('CREATE TABLE later AS SELECT 1 AS n')
    await lab.cluster.archiveWal()
    const elsewhere = [
      '--tablespace',
      `${join(lab.scratch.path, 'space')}=${join(lab.scratch.path, 'space4')}`,
    ]
    const server = await recover(lab, 'later', elsewhere)
    await server.waitForPromotion()
    expect(await server.sql('SELECT n FROM later')).toEqual([{ n: 1 }])
    await expectClean(server)
  })
})
