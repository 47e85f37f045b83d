import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type TableChecksum, tableChecksums } from '../lab/checksums.ts'
import { Lab } from '../lab/lab.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { backUp, listedBackups, recover, restoreTo } from './commands.ts'

describe.skipIf(!findPrograms() && !process.env.CI)('a backup under load', () => {
  let lab: Lab
  let before: TableChecksum[]

  beforeAll(async () => {
    lab = await Lab.create()
    const { cluster } = lab
    await cluster.pgbench(['--initialize', '--scale=2', '--quiet'])
    await using load = cluster.startPgbench({ clients: 2 })
    await cluster.waitUntil('(SELECT count(*) > 100 FROM pgbench_history)')
    const record = await backUp(lab)
    expect(await listedBackups(lab)).toEqual([record.id])
    const [row] = await cluster.sql<{ n: string }>('SELECT count(*) AS n FROM pgbench_history')
    await cluster.waitUntil(`(SELECT count(*) > ${row!.n} + 100 FROM pgbench_history)`)
    expect(await load.stop()).not.toContain('error')
    before = await tableChecksums(cluster)
    await cluster.archiveWal()
  })
  beforeEach((context) => void requireServer(context))
  afterAll(() => lab?.[Symbol.asyncDispose]())

  test('restores to the very rows, with clean indexes and pages', async () => {
    const server = await recover(lab, 'restored')
    await server.waitForPromotion()
    expect(await tableChecksums(server)).toEqual(before)
    await server.run('pg_amcheck', ['--heapallindexed', '--install-missing', 'postgres'])
    await server.stop()
    await server.run('pg_checksums', ['--check', '--pgdata', server.dataDirectory])
  })

  test("is what PostgreSQL's own pg_verifybackup accepts, before a server touches it", async () => {
    const directory = await restoreTo(lab, 'verified')
    await lab.cluster.run('pg_verifybackup', ['--no-parse-wal', directory])
  })
})

describe.skipIf(!findPrograms() && !process.env.CI)('a standalone backup', () => {
  test('restores without an archive, though checkpoints recycled WAL all the while', async (context) => {
    requireServer(context)
    await using lab = await Lab.create({
      archive: false,
      initdb: ['--wal-segsize=1'],
      settings: { max_wal_size: '2MB', min_wal_size: '2MB', wal_recycle: true },
    })
    const { cluster } = lab
    await cluster.pgbench(['--initialize', '--scale=2', '--quiet'])
    await using load = cluster.startPgbench({ clients: 2 })
    await cluster.waitUntil('(SELECT count(*) > 100 FROM pgbench_history)')
    const running = await lab.startPgrecall(['backup', '--standalone', '--compression', 'zstd:12', '--json'])
    let isOver = false
    void running.process.finally(() => {
      isOver = true
    })
    while (!isOver) await cluster.sql('CHECKPOINT')
    const { exitCode, stdout } = await running.process
    expect(exitCode).toBe(0)
    const record = JSON.parse(String(stdout))
    // Else the server would have had no reason to remove what the backup needs.
    expect(record.start.walFile < record.stop.walFile).toBe(true)
    expect(await load.stop()).not.toContain('error')
    expect(await cluster.sql('SELECT slot_name FROM pg_replication_slots')).toEqual([])

    const directory = await restoreTo(lab, 'restored')
    await cluster.verifyBackup(directory)
    const walFiles = (await readdir(join(directory, 'pg_wal'))).filter((name) => name.length === 24)
    expect(walFiles).toContain(record.start.walFile)
    expect(walFiles).toContain(record.stop.walFile)
    const server = await lab.adopt(directory)
    await server.start()
    await server.waitForPromotion()
    await server.run('pg_amcheck', ['--heapallindexed', '--install-missing', 'postgres'])
    const [row] = await server.sql<{ sums: string }>(`
      SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)
         AND (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(delta) FROM pgbench_history) AS sums`)
    expect(row!.sums).toBe(true)
  })
})
