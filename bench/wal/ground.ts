import { appendFile, link, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { Cluster } from '../../test/lab/cluster.ts'
import { poll } from '../../test/lab/poll.ts'
import { Scratch } from '../../test/lab/scratch.ts'
import { asConfigurationLines, type Settings } from '../../test/lab/settings.ts'
import { makeNotes, makeParagraphs, notes } from '../data.ts'
import { cpuSecondsOfMachine } from '../processes.ts'
import { installTimer } from './calls.ts'

const RESTORE_POINT = 'end of the load'
const SCALE = 20
const ROWS_AT_ONCE = 20_000
/** Archiving into nowhere. */
const NOWHERE: Settings = { archive_command: 'true' }
const SETTINGS: Settings = { autovacuum: false, shared_buffers: '256MB' }
const LONGEST_RUN_MS = 600_000

/** What the same WAL was worth to one tool. */
export interface Timed {
  seconds: number
  /** Of all processes of the machine meanwhile: what works in the background belongs to nobody's children. */
  cpuSeconds: number
}

export interface Recovery {
  restoreCommand(dataDirectory: string): string
  /** Waits for what the command has left running, and removes what it has left on the disk. */
  forget(dataDirectory: string): Promise<void>
  /** Whether what the server has recovered is compared with its source. */
  isProven: boolean
}

/** Real WAL, made once: a stopped cluster that still has all of it, and a copy of the cluster from before. */
export class WalGround implements AsyncDisposable {
  readonly scratch: Scratch
  readonly cluster: Cluster
  readonly jobs: number
  readonly timer: string
  /** The data directory as it was when the first segment began; it holds no WAL. */
  readonly base: string
  /** Names of the segments between, oldest first. */
  readonly segments: readonly string[]
  /** What the tables hold in the end. */
  readonly #summary: string
  #copies = 0

  private constructor(fields: {
    scratch: Scratch
    cluster: Cluster
    jobs: number
    timer: string
    base: string
    segments: readonly string[]
    summary: string
  }) {
    this.scratch = fields.scratch
    this.cluster = fields.cluster
    this.jobs = fields.jobs
    this.timer = fields.timer
    this.base = fields.base
    this.segments = fields.segments
    this.#summary = fields.summary
  }

  /** @param count of segments, at least */
  static async create(count: number, jobs: number): Promise<WalGround> {
    await using owned = new AsyncDisposableStack()
    const scratch = owned.use(await Scratch.create('bench'))
    const settings = { ...SETTINGS, ...NOWHERE, archive_mode: true, wal_keep_size: '1TB' }
    const cluster = owned.use(await Cluster.create({ within: scratch, fresh: true, settings }))
    await cluster.pgbench(['--initialize', '--quiet', `--scale=${SCALE}`])
    await makeParagraphs(cluster)
    await makeNotes(cluster, 0)
    const base = await baseOf(cluster, scratch)
    const segments = await writeWal(cluster, count)
    const summary = await summaryOf(cluster)
    await cluster.stop()
    // What is measured is synced.
    await configure(cluster, { fsync: true })
    const timer = await installTimer({ scratch })
    owned.move()
    return new WalGround({ scratch, cluster, jobs, timer, base, segments, summary })
  }

  /** Starts the server with all segments waiting, and takes the time until its archiver has dealt with them. */
  async drain(archiveCommand: string): Promise<Timed> {
    await this.makeReady(this.segments)
    await configure(this.cluster, { archive_command: archiveCommand })
    await execa('sync')
    await this.cluster.start()
    const timed = await this.#untilNoneReady()
    await configure(this.cluster, NOWHERE)
    await this.cluster.sql('SELECT pg_reload_conf()')
    await this.cluster.waitUntil(`current_setting('archive_command') = 'true'`)
    await this.cluster.stop()
    return timed
  }

  /** Marks these as waiting for the archiver, and no others. */
  async makeReady(names: readonly string[]): Promise<void> {
    const folder = this.#statusFolder
    for (const file of await readdir(folder)) {
      const name = file.replace(/\.(ready|done)$/, '')
      const wanted = `${name}.${names.includes(name) ? 'ready' : 'done'}`
      if (file !== wanted) await rename(join(folder, file), join(folder, wanted))
    }
  }

  /** A data directory that a recovery can begin in. @returns its path */
  async copyBase(): Promise<string> {
    const dataDirectory = join(this.scratch.path, `copy-${++this.#copies}`)
    await execa('cp', ['--archive', '--reflink=auto', this.base, dataDirectory])
    return dataDirectory
  }

  /** Recovers a copy of the base to the end of the WAL, and takes the time from the start of its server. */
  async replay({ restoreCommand, forget, isProven }: Recovery): Promise<Timed> {
    const dataDirectory = await this.copyBase()
    await using copy = await Cluster.adopt(dataDirectory, {
      programs: this.cluster.programs,
      within: this.scratch,
      name: `socket-${this.#copies}`,
      settings: {
        ...SETTINGS,
        fsync: true,
        archive_mode: false,
        restore_command: restoreCommand(dataDirectory),
        recovery_target_name: RESTORE_POINT,
        recovery_target_action: 'pause',
      },
    })
    await execa('sync')
    const timed = await timeOf(async () => {
      await copy.start({ until: 'launched' })
      const isOver = () => hasStopped(copy)
      await poll(isOver, { what: 'the end of the replay', timeoutMs: LONGEST_RUN_MS, everyMs: 20 })
    })
    if (isProven) {
      await copy.waitForPaused()
      const replayed = await summaryOf(copy)
      if (replayed !== this.#summary)
        throw new Error(`the replay gave ${replayed}, the source has ${this.#summary}`)
    }
    await copy.stop('immediate')
    await forget(dataDirectory)
    await rm(dataDirectory, { recursive: true })
    return timed
  }

  /** A folder with all segments as they are. */
  async plainFolder(): Promise<string> {
    const folder = await this.scratch.folder('plain')
    for (const name of this.segments)
      await link(join(this.cluster.dataDirectory, 'pg_wal', name), join(folder, name))
    return folder
  }

  get #statusFolder(): string {
    return join(this.cluster.dataDirectory, 'pg_wal/archive_status')
  }

  #untilNoneReady(): Promise<Timed> {
    const wanted = new Set(this.segments.map((name) => `${name}.ready`))
    const isOver = async () => !(await readdir(this.#statusFolder)).some((name) => wanted.has(name))
    return timeOf(() => poll(isOver, { what: 'the archiver', timeoutMs: LONGEST_RUN_MS, everyMs: 10 }))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cluster[Symbol.asyncDispose]()
    await this.scratch[Symbol.asyncDispose]()
  }
}

async function timeOf(work: () => Promise<unknown>): Promise<Timed> {
  const [began, cpuBefore] = [performance.now(), cpuSecondsOfMachine()]
  await work()
  return { seconds: (performance.now() - began) / 1000, cpuSeconds: cpuSecondsOfMachine() - cpuBefore }
}

async function configure(cluster: Cluster, settings: Settings): Promise<void> {
  await appendFile(join(cluster.dataDirectory, 'postgresql.conf'), asConfigurationLines(settings))
}

/** A cold copy without WAL: the segment that it ends in is the first that a recovery asks for. */
async function baseOf(cluster: Cluster, scratch: Scratch): Promise<string> {
  await cluster.stop()
  const base = join(scratch.path, 'base')
  await execa('cp', ['--archive', '--reflink=auto', cluster.dataDirectory, base])
  for (const folder of ['pg_wal', 'pg_wal/archive_status']) {
    for (const entry of await readdir(join(base, folder), { withFileTypes: true })) {
      if (entry.isFile()) await rm(join(base, folder, entry.name))
    }
  }
  await execa('cp', ['--archive', join(base, 'PG_VERSION'), join(base, 'recovery.signal')])
  await cluster.start()
  return base
}

/** pgbench's transactions and inserts, side by side. @returns the names of the segments */
async function writeWal(cluster: Cluster, count: number): Promise<string[]> {
  const nameOf = async (lsn: string) => {
    const [row] = await cluster.sql<{ name: string }>(`SELECT pg_walfile_name(${lsn}) AS name`)
    return row!.name
  }
  const first = await nameOf('(SELECT redo_lsn FROM pg_control_checkpoint())')
  const names = async () =>
    (await readdir(join(cluster.dataDirectory, 'pg_wal')))
      .filter((name) => /^[0-9A-F]{24}$/.test(name) && name >= first)
      .toSorted()
  const load = cluster.startPgbench({ clients: 2 })
  const written = async (last: string) => (await names()).indexOf(last) + 1
  for (let id = 1; (await written(await nameOf('pg_current_wal_lsn()'))) < count; id += ROWS_AT_ONCE) {
    await cluster.sql(`INSERT INTO note ${notes(id, ROWS_AT_ONCE)}`)
  }
  await load.stop()
  const last = await nameOf(`pg_create_restore_point('${RESTORE_POINT}')`)
  await cluster.archiveWal()
  return (await names()).filter((name) => name <= last)
}

async function summaryOf(cluster: Cluster): Promise<string> {
  const [row] = await cluster.sql<{ summary: string }>(`
    SELECT json_build_object(
      'notes', (SELECT count(*) FROM note),
      'transactions', (SELECT count(*) FROM pgbench_history),
      'balance', (SELECT sum(abalance) FROM pgbench_accounts)
    )::text AS summary`)
  return row!.summary
}

function hasStopped(cluster: Cluster): boolean {
  const log = cluster.logText()
  if (log.includes(`recovery stopping at restore point "${RESTORE_POINT}"`)) return true
  if (cluster.isRunning) return false
  throw new Error(`the server ended during the replay:\n${log.slice(-2000)}`)
}
