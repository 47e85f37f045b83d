import { setTimeout as pause } from 'node:timers/promises'
import type { Cluster } from '../lab/cluster.ts'

/** One commit, and how a recovery can be told to end with it. */
export interface Commit {
  n: number
  xid: string
  /** Of the commit record, to the microsecond. */
  time: string
}

/** What a table of commits holds, up to one of them. */
export interface LedgerState {
  commits: number
  /** Of all rows. */
  checksum: string
}

/**
 * A table in which each commit is a row, numbered without gaps by the one session that writes it, however often it is
 * cut off. Needs `track_commit_timestamp`.
 */
export class Ledger implements AsyncDisposable {
  /** The last number whose commit the server has confirmed. */
  confirmed = 0
  readonly #cluster: Cluster
  readonly #ending = new AbortController()
  #writing: Promise<void> = Promise.resolve()

  private constructor(cluster: Cluster) {
    this.#cluster = cluster
  }

  static async start(cluster: Cluster): Promise<Ledger> {
    await cluster.sql(
      `CREATE TABLE commit (n bigint PRIMARY KEY, xid xid8 DEFAULT pg_current_xact_id(), lsn pg_lsn DEFAULT pg_current_wal_lsn())`,
    )
    const ledger = new Ledger(cluster)
    ledger.#writing = ledger.#write()
    // It is told by `stop`.
    ledger.#writing.catch(() => {})
    return ledger
  }

  /** @throws when the server lost what it had confirmed */
  async stop(): Promise<void> {
    this.#ending.abort()
    await this.#writing
  }

  async #write(): Promise<void> {
    while (!this.#ending.signal.aborted) {
      try {
        await this.#writeUntilCutOff()
      } catch (error) {
        if (error instanceof LostCommits) throw error
        // The server is going, gone or coming.
        await pause(20)
      }
    }
  }

  async #writeUntilCutOff(): Promise<void> {
    await using session = await this.#cluster.connect()
    const { rows } = await session.query<{ last: string }>('SELECT coalesce(max(n), 0) AS last FROM commit')
    let n = Number(rows[0]!.last)
    if (n < this.confirmed)
      throw new LostCommits(`commit ${this.confirmed} was confirmed, and ${n} is the last there is`)
    while (!this.#ending.signal.aborted) {
      await session.query('INSERT INTO commit VALUES ($1)', [++n])
      this.confirmed = n
      await pause(10)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort()
    await this.#writing.catch(() => {})
  }
}

/** The commits from a WAL position on, in their order. */
export async function commitsAfter(cluster: Cluster, lsn: string): Promise<Commit[]> {
  return cluster.sql<Commit>(
    `SELECT n::int, xid::text, to_char(pg_xact_commit_timestamp(xid::xid) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US"+00"') AS time
     FROM commit WHERE lsn > $1 ORDER BY n`,
    { values: [lsn] },
  )
}

/** @param last up to this number; without it all that there is */
export async function ledgerState(cluster: Cluster, last?: number): Promise<LedgerState> {
  const [row] = await cluster.sql<LedgerState>(
    `SELECT count(*)::int AS commits, coalesce(md5(string_agg(commit::text, ' ' ORDER BY n)), '') AS checksum
     FROM commit WHERE n <= coalesce($1, n)`,
    { values: [last ?? null] },
  )
  return row!
}

class LostCommits extends Error {}
