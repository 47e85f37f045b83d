import { readdir, rm, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import type { Client } from 'pg'
import type { Cluster } from '../lab/cluster.ts'
import type { Step } from './world.ts'

const SEGMENT_BYTES = 1024 * 1024 * 1024

type Session = Client & AsyncDisposable

/** The cluster that is backed up, whoever is the primary at the moment, with a session for each database. */
export class Source implements AsyncDisposable {
  cluster: Cluster
  readonly #sessions = new Map<string, Session>()

  constructor(cluster: Cluster) {
    this.cluster = cluster
  }

  /** @throws with the statement that failed */
  async play(step: Step): Promise<void> {
    switch (step.kind) {
      case 'server':
        return this.#restart(step.what)
      case 'summaries':
        return this.#loseSummaries(step.what)
      case 'extend':
        return this.#extend(step.database, step.table)
      default: {
        for (const database of step.closes ?? []) await this.#leave(database)
        for (const statement of step.statements) await this.#run(step.database, statement)
      }
    }
  }

  async session(database: string): Promise<Session> {
    const known = this.#sessions.get(database)
    if (known) return known
    const session = await this.cluster.connect(database)
    this.#sessions.set(database, session)
    return session
  }

  /** From now on another server is the source. */
  async follow(cluster: Cluster): Promise<void> {
    await this.leaveAll()
    this.cluster = cluster
  }

  async leaveAll(): Promise<void> {
    for (const database of [...this.#sessions.keys()]) await this.#leave(database)
  }

  async #run(database: string, statement: string): Promise<void> {
    const session = await this.session(database)
    try {
      await session.query(statement)
    } catch (error) {
      throw new Error(`${database}: ${statement}: ${(error as Error).message}`, { cause: error })
    }
  }

  async #restart(what: 'kill -9' | 'immediate restart' | 'fast restart'): Promise<void> {
    await this.leaveAll()
    if (what === 'kill -9') await this.cluster.kill9()
    else await this.cluster.stop(what === 'fast restart' ? 'fast' : 'immediate')
    await this.cluster.start()
  }

  /**
   * Zero pages at a heap's end are those of an extension whose use was never logged, as a crash leaves them. So the
   * first segment can be filled with a hole while the server is stopped, and the next row that is inserted goes to the
   * end of it, or to the second segment.
   */
  async #extend(database: string, table: string): Promise<void> {
    const session = await this.session(database)
    const { rows } = await session.query<{ path: string }>(`SELECT pg_relation_filepath('${table}') AS path`)
    await this.leaveAll()
    await this.cluster.stop()
    await truncate(join(this.cluster.dataDirectory, rows[0]!.path), SEGMENT_BYTES)
    await this.cluster.start()
  }

  /** As if they had been kept for too short a time. */
  async #loseSummaries(what: 'lose all' | 'lose one'): Promise<void> {
    const folder = join(this.cluster.dataDirectory, 'pg_wal/summaries')
    const names = (await readdir(folder)).filter((name) => name.endsWith('.summary')).toSorted()
    const lost = what === 'lose all' ? names : names.slice(-1)
    for (const name of lost) await rm(join(folder, name))
  }

  async #leave(database: string): Promise<void> {
    const session = this.#sessions.get(database)
    this.#sessions.delete(database)
    await session?.[Symbol.asyncDispose]()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.leaveAll()
  }
}
