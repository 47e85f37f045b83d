import { readdirSync } from 'node:fs'
import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { receivingKey } from '../../src/catalog/layout.ts'
import { Lab, type LabConfiguration, type LabOptions } from '../lab/lab.ts'
import { poll } from '../lab/poll.ts'
import type { RunningPgrecall, RunOptions, RunResult } from '../lab/product.ts'
import { resultOf } from '../lab/product.ts'

/** A lab whose WAL leaves the server by `wal-receive` alone, in segments of 1 MiB that the server keeps for no one else. */
export async function receivingLab(options: LabOptions = {}): Promise<Lab> {
  const lab = await Lab.create({
    archive: false,
    initdb: ['--wal-segsize=1'],
    ...options,
    settings: { max_wal_size: '8MB', min_wal_size: '2MB', ...options.settings },
  })
  await lab.writeConfiguration((configuration) => {
    receiveInto(configuration, folderOf(lab))
    options.configure?.(configuration)
  })
  return lab
}

/** In the configuration: the unfinished segment every second, and where segments are received. */
export function receiveInto(configuration: LabConfiguration, directory: string): void {
  configuration.clusters.main!.wal = { receive: { directory, interval: 1 } }
}

export const folderOf = (lab: Lab) => join(lab.scratch.path, 'received')

/** `pgrecall wal-receive` in the background. Disposing kills it. */
export class Receiver implements AsyncDisposable {
  readonly process: RunningPgrecall
  #words = ''
  readonly result: Promise<RunResult>

  private constructor(process: RunningPgrecall) {
    this.process = process
    process.stderr?.on('data', (chunk: Buffer) => {
      this.#words += chunk.toString()
    })
    this.result = resultOf(process)
  }

  /** Resolves when it receives. */
  static async start(lab: Lab, args: string[] = [], options: RunOptions = {}): Promise<Receiver> {
    const started = await lab.startPgrecall(['wal-receive', ...args], { timeoutMs: 300_000, ...options })
    const receiver = new Receiver(started.process)
    await receiver.says(/Receiving WAL/)
    return receiver
  }

  get words(): string {
    return this.#words
  }

  async says(pattern: RegExp): Promise<void> {
    const isOver = this.result.then(() => true)
    await poll(
      async () => {
        if (pattern.test(this.#words)) return true
        if (await Promise.race([isOver, Promise.resolve(false)])) throw new Error(`it ended: ${this.#words}`)
        return false
      },
      { what: `${pattern} in: ${this.#words}`, timeoutMs: 60_000 },
    )
  }

  /** As systemd stops it. */
  async stop(): Promise<RunResult> {
    this.process.kill('SIGTERM')
    return this.result
  }

  async kill9(): Promise<void> {
    this.process.kill('SIGKILL')
    await this.result
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill9()
  }
}

/** Resolves when what the server has written by now is on the receiver's side. */
export async function untilReceived(lab: Lab, server = lab.cluster): Promise<void> {
  const [row] = await server.sql<{ position: string }>('SELECT pg_current_wal_flush_lsn()::text AS position')
  await server.waitUntil(
    `EXISTS (SELECT FROM pg_stat_replication WHERE application_name = 'pgrecall' AND write_lsn >= '${row!.position}')`,
    { timeoutMs: 60_000 },
  )
}

/** Where the unfinished part of a segment lies. */
export function receivingObject(lab: Lab, segment: string, repository = lab.repository): string {
  return join(repository, receivingKey('main', segment))
}

/** Names of segments in the repository: whole, or `receiving`. */
export function storedSegments(
  lab: Lab,
  repository = lab.repository,
): { whole: string[]; receiving: string[] } {
  const names = readdirSync(join(repository, 'main/wal'), { recursive: true, encoding: 'utf8' })
    .map((path) => path.slice(path.lastIndexOf('/') + 1))
    .sort()
  const having = (pattern: RegExp) => names.flatMap((name) => pattern.exec(name)?.[1] ?? [])
  return { whole: having(/^([0-9A-F]{24})\.zst$/), receiving: having(/^([0-9A-F]{24})\.receiving\.zst$/) }
}

/**
 * Makes a repository one that is not there, as where nothing is mounted. What is being stored at that moment may still
 * arrive. @returns what gives it back
 */
export async function takeAway(repository: string): Promise<() => Promise<void>> {
  const files = ['pgrecall.json', 'main/cluster.json'].map((name) => join(repository, name))
  for (const file of files) await rename(file, `${file}.aside`)
  return async () => {
    for (const file of files.toReversed()) await rename(`${file}.aside`, file)
  }
}
