import { expect } from 'vitest'
import type { ErrorKind } from '../../src/errors.ts'
import type { Program } from '../../src/postgres/client-programs.ts'
import { pgDump } from '../../src/postgres/pg-dump.ts'
import type { Cluster } from '../lab/cluster.ts'

/** Names that libpq, a shell, psql or a URI would read as something else. */
export const ODD_NAMES = [
  'a b',
  `quo"te'`,
  '=x',
  'dbname=postgres',
  'postgres://h/y',
  'ünï',
  'back\\slash',
  'new\nline',
  '-x',
  '%41?&#',
]

/** A program of the lab's, for the server. */
export const programOf = (cluster: Cluster, name: string): Program => ({
  path: cluster.programs.path(name),
  majorVersion: cluster.programs.major,
})

export const placeOf = ({ host, port, user }: Cluster, database = 'postgres') => ({
  host,
  port,
  user,
  database,
})

export const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`

/** A table that is larger than all that is buffered between a server and a reader. */
export const LARGE_TABLE = `CREATE TABLE large AS SELECT g AS id, repeat(md5(g::text), 32) AS filler FROM generate_series(1, 20000) g;`

export const env = { PATH: process.env.PATH }

/** Of a caller who neither interrupts nor listens. */
export const quiet = { signal: new AbortController().signal, onWarning: () => {} }

/** An archive, as it streams out of pg_dump. */
export const dumpOf = (cluster: Cluster, database = 'postgres') =>
  pgDump(programOf(cluster, 'pg_dump'), env, {
    connection: placeOf(cluster, database),
    format: 'custom',
    compress: 'none',
    ...quiet,
  })

export const archiveOf = async (cluster: Cluster, database = 'postgres') =>
  Buffer.concat(await Array.fromAsync(dumpOf(cluster, database), (piece) => Buffer.from(piece)))

export async function* inPieces(bytes: Buffer, size = 64 * 1024) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

/** What an error has to be. A bare pattern in `toMatchObject` fits everything. */
export const failure = (kind: ErrorKind, message: RegExp, hint?: RegExp) => ({
  kind,
  message: expect.stringMatching(message),
  ...(hint ? { hint: expect.stringMatching(hint) } : {}),
})
