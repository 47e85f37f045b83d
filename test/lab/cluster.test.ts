import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { tableChecksums } from './checksums.ts'
import { Cluster } from './cluster.ts'
import { isAlive } from './processes.ts'
import { requireServer } from './programs.ts'
import { Scratch } from './scratch.ts'

test('a cluster starts, answers, survives its kill, and leaves nothing', {
  timeout: 60_000,
}, async (context) => {
  requireServer(context)
  let cluster: Cluster
  let pid: number
  {
    await using disposable = await Cluster.create()
    cluster = disposable
    await cluster.sql('CREATE TABLE "Odd ""name" AS SELECT generate_series(1, 1000) AS n')
    const before = await tableChecksums(cluster)
    expect(before).toMatchObject([{ table: 'public.Odd "name', rows: 1000 }])

    await cluster.kill9()
    expect(cluster.isRunning).toBe(false)
    await cluster.start()
    expect(cluster.logText()).toContain('was not properly shut down')
    expect(await tableChecksums(cluster)).toEqual(before)
    pid = Number((await readFile(join(cluster.dataDirectory, 'postmaster.pid'), 'utf8')).split('\n')[0])
    expect(isAlive(pid)).toBe(true)
  }
  expect(isAlive(pid)).toBe(false)
  expect(existsSync(cluster.host)).toBe(false)
})

test('a load runs until it is stopped, and WAL is archived on demand', {
  timeout: 60_000,
}, async (context) => {
  requireServer(context)
  await using scratch = await Scratch.create()
  const archive = await scratch.folder('archive')
  await using cluster = await Cluster.create({ within: scratch, archiveCommand: `cp "%p" "${archive}/%f"` })
  await cluster.pgbench(['--initialize', '--scale=1', '--quiet'])
  await using load = cluster.startPgbench()
  await cluster.waitUntil('(SELECT count(*) > 20 FROM pgbench_history)')
  expect(await load.stop()).not.toContain('error')
  const stopped = await tableChecksums(cluster)
  const segment = await cluster.archiveWal()
  expect(existsSync(join(archive, segment))).toBe(true)
  expect(await tableChecksums(cluster)).toEqual(stopped)
})

test('a directory is adopted on a socket of its own, in recovery or not', {
  timeout: 60_000,
}, async (context) => {
  requireServer(context)
  await using scratch = await Scratch.create()
  await using primary = await Cluster.create({ within: scratch })
  const copy = join(scratch.path, 'copy')
  await primary.run('pg_basebackup', ['--pgdata', copy, '--checkpoint=fast', '--write-recovery-conf'])
  await using standby = await Cluster.adopt(copy, { within: scratch, settings: { log_connections: true } })
  await standby.start()
  expect(await standby.sql('SELECT pg_is_in_recovery() AS recovering')).toEqual([{ recovering: true }])
  await standby.sql('SELECT pg_promote(false)')
  await standby.waitForPromotion()
  expect(primary.isRunning).toBe(true)
})

test('fresh clusters have an identifier of their own, others share one', {
  timeout: 60_000,
}, async (context) => {
  requireServer(context)
  const identifier = async (fresh: boolean) => {
    await using cluster = await Cluster.create({ fresh })
    const [row] = await cluster.sql('SELECT system_identifier FROM pg_control_system()')
    return row?.system_identifier
  }
  const [shared, again, own] = await Promise.all([identifier(false), identifier(false), identifier(true)])
  expect(again).toBe(shared)
  expect(own).not.toBe(shared)
})

test('a server that cannot start says why', { timeout: 60_000 }, async (context) => {
  requireServer(context)
  await using scratch = await Scratch.create()
  const starting = Cluster.create({ within: scratch, settings: { shared_buffers: 'much' } })
  await expect(starting).rejects.toThrow(/invalid value for parameter "shared_buffers"/)
})
