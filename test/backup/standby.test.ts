import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Cluster } from '../lab/cluster.ts'
import { Lab } from '../lab/lab.ts'
import { poll } from '../lab/poll.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { expectBalanced, expectClean } from './clean.ts'
import { backUp, failureOf, listedBackups, recover, restoreTo } from './commands.ts'

describe.skipIf(!findPrograms() && !process.env.CI)('a backup from a standby', () => {
  let lab: Lab
  let standby: Cluster

  beforeAll(async () => {
    lab = await Lab.create()
    const { cluster } = lab
    await cluster.pgbench(['--initialize', '--scale=2', '--quiet'])
    standby = await startStandby('standby')
    await pointTo(standby)
  })
  beforeEach((context) => void requireServer(context))
  afterAll(() => lab?.[Symbol.asyncDispose]())

  test.each(['files', 'stream'])('by %s, under load on the primary, restores', async (method) => {
    await using load = lab.cluster.startPgbench({ clients: 2 })
    await standby.waitUntil('(SELECT count(*) > 50 FROM pgbench_history)')
    const running = backUp(lab, ['--method', method])
    // A standby cannot end a segment; its primary does so sooner or later.
    let isOver = false
    void running.catch(() => {}).finally(() => (isOver = true))
    while (!isOver) await lab.cluster.archiveWal()
    const record = await running
    expect(record).toMatchObject({ method, fromStandby: true, standalone: false, damagedPages: 0 })
    expect(await load.stop()).not.toContain('error')
    await lab.cluster.archiveWal()
    const server = await recover(lab, `restored-${method}`)
    await server.waitForPromotion()
    await expectBalanced(server)
    await expectClean(server)
  })

  test.each(['files', 'stream'])('by %s with its own WAL needs no archive', async (method) => {
    await using load = lab.cluster.startPgbench({ clients: 2 })
    const record = await backUp(lab, ['--method', method, '--standalone'])
    expect(await load.stop()).not.toContain('error')
    const directory = await restoreTo(lab, `standalone-${method}`, [
      record.id,
      '--immediate',
      '--archive-mode',
      'off',
      '--target-action',
      'promote',
    ])
    await lab.cluster.verifyBackup(directory)
    const server = await lab.adopt(directory)
    await server.start()
    await server.waitForPromotion()
    await expectBalanced(server)
    await expectClean(server)
  })

  test.each(['files', 'stream'])('by %s is void when the standby is promoted meanwhile', async (method) => {
    const own = await startStandby(`promoted-${method}`)
    await pointTo(own)
    const before = await listedBackups(lab)
    const running = failureOf(lab, ['backup', '--method', method, '--max-rate', '4MB'])
    const incoming = join(lab.repository, '.incoming')
    await poll(async () => (await sizesIn(incoming)).some((bytes) => bytes > SMALL_BYTES), {
      what: 'the copy to begin',
    })
    await own.sql('SELECT pg_promote()')
    const failure = await running
    expect(failure).toMatchObject({ exitCode: 11, kind: 'failed' })
    expect(failure.message).toContain('promoted')
    expect(await listedBackups(lab)).toEqual(before)
    await own.stop('immediate')
    await pointTo(standby)
  })

  async function startStandby(name: string): Promise<Cluster> {
    const directory = join(lab.scratch.path, `${name}-data`)
    await lab.cluster.run('pg_basebackup', [
      '--pgdata',
      directory,
      '--checkpoint=fast',
      '--write-recovery-conf',
    ])
    const started = await lab.adopt(directory, {
      name,
      settings: { archive_mode: 'off', wal_receiver_status_interval: 1 },
    })
    await started.start()
    return started
  }

  /** The cluster in the configuration is this server from now on. */
  function pointTo({ dataDirectory, host, port, user }: Cluster): Promise<void> {
    return lab.writeConfiguration((configuration) => {
      Object.assign(configuration.clusters.main!, { dataDirectory, connection: { host, port, user } })
    })
  }
})

/** Locks and records are smaller, and written before the copy begins. */
const SMALL_BYTES = 16 * 1024

/** What the processes of backups are writing; the primary's archiving writes into the same folder. */
async function sizesIn(folder: string): Promise<number[]> {
  const names = await readdir(folder).catch(() => [])
  return Promise.all(
    names.map(async (name) => {
      const commandLine = await readFile(`/proc/${name.split('@')[0]}/cmdline`, 'utf8').catch(() => '')
      if (!commandLine.includes('\0backup\0')) return 0
      return (await stat(join(folder, name)).catch(() => undefined))?.size ?? 0
    }),
  )
}
