import { type Lsn, parseLsn } from './lsn.ts'
import type { Server } from './server.ts'

/** A server as far as dumps go; each role may ask this much. */
export interface DumpSource {
  /** As in server_version_num: 150018 for 15.18. */
  version: number
  majorVersion: number
  versionText: string
  systemIdentifier: string
  walSegmentBytes: number
  inRecovery: boolean
  /** Whether the role may see everything: only then are passwords of roles to be had. */
  isSuperuser: boolean
  /** The role that made the cluster. @see src/include/catalog/pg_authid.dat */
  bootstrapSuperuser: string
}

/** A database with what `CREATE DATABASE` makes it of. */
export interface DumpableDatabase {
  oid: string
  name: string
  owner: string
  encoding: string
  collate: string
  ctype: string
  provider: 'libc' | 'icu' | 'builtin'
  /** The provider's own name of the locale; undefined of libc. */
  locale: string | undefined
  isTemplate: boolean
  /** Whether anybody, and whether this role, may connect to it. */
  allowsConnections: boolean
  mayConnect: boolean
  /** What an interrupted `DROP DATABASE` has left: nobody can connect to it, and nothing but dropping it is possible. */
  isInvalid: boolean
  /** What it takes up; 0 where the role may not ask. */
  bytes: number
}

/** The moment that a dump shows. */
export interface Snapshot {
  /** For `pg_dump --snapshot`; good as long as the session is. */
  id: string
  /** Up to where the WAL was written, on a standby: replayed. */
  lsn: Lsn
  /** The server's clock, ISO 8601. */
  time: string
}

export async function dumpSource(server: Server): Promise<DumpSource> {
  const row = await server.one<{
    version: number
    text: string
    identifier: string
    segment: string
    recovering: boolean
    superuser: boolean
    bootstrap: string
  }>(
    `SELECT current_setting('server_version_num')::int AS version, current_setting('server_version') AS text,
            system_identifier::text AS identifier, pg_is_in_recovery() AS recovering,
            pg_size_bytes(current_setting('wal_segment_size'))::text AS segment,
            (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser,
            (SELECT rolname FROM pg_roles WHERE oid = 10) AS bootstrap
       FROM pg_control_system()`,
  )
  return {
    version: row.version,
    majorVersion: Math.floor(row.version / 10_000),
    versionText: row.text,
    systemIdentifier: BigInt.asUintN(64, BigInt(row.identifier)).toString(),
    walSegmentBytes: Number(row.segment),
    inRecovery: row.recovering,
    isSuperuser: row.superuser,
    bootstrapSuperuser: row.bootstrap,
  }
}

/** The database's own locale, by major version. */
function localeColumns(majorVersion: number): string {
  if (majorVersion < 15) return `'c' AS provider, NULL AS locale`
  return `datlocprovider::text AS provider, ${majorVersion < 17 ? 'daticulocale' : 'datlocale'} AS locale`
}

const PROVIDERS = { c: 'libc', i: 'icu', b: 'builtin' } as const

/** All of them, by name; also templates, and those to which nobody may connect or can. */
export async function dumpableDatabases(server: Server, majorVersion: number): Promise<DumpableDatabase[]> {
  const rows = await server.query<
    Omit<DumpableDatabase, 'provider' | 'bytes'> & { provider: string; bytes: string | null }
  >(
    `SELECT oid::text AS oid, datname AS name, pg_get_userbyid(datdba) AS owner,
            pg_encoding_to_char(encoding) AS encoding, datcollate AS collate, datctype AS ctype,
            ${localeColumns(majorVersion)}, datistemplate AS "isTemplate", datallowconn AS "allowsConnections",
            has_database_privilege(oid, 'CONNECT') AS "mayConnect", datconnlimit = -2 AS "isInvalid",
            CASE WHEN has_database_privilege(oid, 'CONNECT') THEN pg_database_size(oid) ELSE 0 END::text AS bytes
       FROM pg_database ORDER BY datname`,
  )
  return rows.map((row) => ({
    ...row,
    provider: PROVIDERS[row.provider as keyof typeof PROVIDERS] ?? 'libc',
    locale: row.locale ?? undefined,
    bytes: Number(row.bytes),
  }))
}

/**
 * What the rows of a database take up, without its indexes.
 * @param server in that database; another one's lock on a table is waited for no longer than its `lock_timeout`
 * @throws the server's error where such a lock was not had
 */
export async function tablesBytes(server: Server): Promise<number> {
  const { bytes } = await server.one<{ bytes: string }>(
    `SELECT coalesce(sum(pg_table_size(c.oid)), 0)::text AS bytes
       FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
      WHERE c.oid = 'pg_catalog.pg_largeobject'::regclass
            OR relkind = 'r' AND relpersistence <> 't' AND nspname NOT IN ('pg_catalog', 'information_schema')`,
  )
  return Number(bytes)
}

/**
 * Begins the transaction whose view of its database a dump shows.
 * @param server in that database; it holds the snapshot until it is closed
 */
export async function takeSnapshot(server: Server): Promise<Snapshot> {
  await server.query('BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY')
  const row = await server.one<{ id: string; lsn: string; time: Date }>(
    `SELECT pg_export_snapshot() AS id, clock_timestamp() AS time,
            (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END)::text AS lsn`,
  )
  return { id: row.id, lsn: parseLsn(row.lsn)!, time: row.time.toISOString() }
}
