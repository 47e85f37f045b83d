import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { execa } from 'execa'
import { Cluster } from '../test/lab/cluster.ts'
import { Scratch } from '../test/lab/scratch.ts'
import type { Settings } from '../test/lab/settings.ts'
import { summaryOf } from './proof.ts'
import { weigh } from './weigh.ts'

/** Fills an empty cluster, with archiving into nowhere. */
export type Fill = (cluster: Cluster) => Promise<void>

const SETTINGS: Settings = {
  autovacuum: false,
  shared_buffers: '256MB',
  maintenance_work_mem: '512MB',
  // For the one statement that counts the rows of all tables.
  max_locks_per_transaction: 2048,
}

/** The same for every tool: a server with data, and a folder to work in. */
export class Ground implements AsyncDisposable {
  readonly scratch: Scratch
  readonly cluster: Cluster
  readonly jobs: number
  /** Of what a backup holds: the data directory without its WAL. */
  bytes = 0
  files = 0
  /** What a copy must hold, too. */
  summary = ''

  private constructor(scratch: Scratch, cluster: Cluster, jobs: number) {
    this.scratch = scratch
    this.cluster = cluster
    this.jobs = jobs
  }

  /** @param settings beside those of all benchmarks */
  static async create(fill: Fill, jobs: number, settings: Settings = {}): Promise<Ground> {
    await using owned = new AsyncDisposableStack()
    const scratch = owned.use(await Scratch.create('bench'))
    const cluster = owned.use(
      await Cluster.create({
        within: scratch,
        fresh: true,
        archiveCommand: 'true',
        settings: { ...SETTINGS, ...settings },
      }),
    )
    await cluster.sql(`ALTER SYSTEM SET max_wal_size = '4GB'`)
    await cluster.sql('SELECT pg_reload_conf()')
    await fill(cluster)
    await settle(cluster)
    const ground = new Ground(scratch, cluster, jobs)
    ground.summary = await summaryOf(cluster)
    Object.assign(ground, await weigh(cluster.dataDirectory, ['pg_wal']))
    owned.move()
    return ground
  }

  /** Arrow functions, so that they can be taken out of the object. */
  serverPid = (): number | undefined =>
    this.cluster.isRunning
      ? Number.parseInt(readFileSync(join(this.cluster.dataDirectory, 'postmaster.pid'), 'utf8'), 10)
      : undefined

  /** Makes the server archive with this command, and waits until it has done so. */
  archiveWith = async (command: string): Promise<void> => {
    const { cluster } = this
    const literal = `'${command.replaceAll("'", "''")}'`
    await cluster.sql(`ALTER SYSTEM SET archive_command = ${literal}`)
    await cluster.sql('SELECT pg_reload_conf()')
    await cluster.waitUntil(`current_setting('archive_command') = ${literal}`)
    await cluster.archiveWal()
  }

  /** Reads all data once, so that it is in the page cache if that is large enough. */
  async warm(): Promise<void> {
    await execa('find', [this.cluster.dataDirectory, '-type', 'f', '-exec', 'cat', '{}', '+'], {
      stdout: 'ignore',
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cluster[Symbol.asyncDispose]()
    await this.scratch[Symbol.asyncDispose]()
  }
}

/** Leaves nothing to be written later, and of the WAL of the filling nothing beside the data. */
async function settle(cluster: Cluster): Promise<void> {
  await cluster.sql('ALTER SYSTEM RESET max_wal_size')
  await cluster.stop()
  await execa(cluster.programs.path('pg_resetwal'), ['--pgdata', cluster.dataDirectory], cluster.childOptions)
  await cluster.start()
  await execa('sync')
}
