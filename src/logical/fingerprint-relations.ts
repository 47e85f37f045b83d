import type pg from 'pg'
import { quoteIdentifier, type Server } from '../postgres/server.ts'

/** What has rows, or a last value, as a snapshot shows it. */
export interface Relation {
  oid: string
  schema: string
  name: string
  relkind: 'r' | 'm' | 'S'
  /** The name of its files: another one when it was truncated or rewritten. */
  filenode: string
  isReadable: boolean
  isFiltered: boolean
  isPopulated: boolean
  ofExtension: boolean
  columns: { name: string; type: string }[]
}

/** Those of the database, by name. Partitioned tables are none, and of generated columns there is nothing. */
export async function relationsOf(server: Server): Promise<Relation[]> {
  const { version } = await server.one<{ version: number }>(
    `SELECT current_setting('server_version_num')::int AS version`,
  )
  return server.query<Relation & pg.QueryResultRow>(
    `SELECT c.oid::text AS oid, relfilenode::text AS filenode,
            nspname AS schema, relname AS name, relkind::text AS relkind, relispopulated AS "isPopulated",
            -- Of what was dropped meanwhile nothing is known, and the lock tells.
            coalesce(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'), true) AS "isReadable",
            row_security_active(c.oid) AS "isFiltered",
            EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
              AS "ofExtension",
            coalesce((SELECT json_agg(json_build_object('name', attname, 'type', atttypid::regtype::text))
                        FROM pg_attribute
                       WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
                             ${version < 120_000 ? '' : "AND attgenerated = ''"}), '[]') AS columns
       FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
      WHERE relkind IN ('r', 'm', 'S') AND nspname !~ '^pg_' AND nspname <> 'information_schema'
            AND NOT (relpersistence = 'u' AND pg_is_in_recovery()) AND relpersistence <> 't'
      ORDER BY nspname::text COLLATE "C", relname::text COLLATE "C"`,
  )
}

/** For a statement. */
export const placeOf = ({ schema, name }: Relation) => `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`

/**
 * Locks a relation against being truncated, rewritten or dropped, until the transaction ends. Not sequences, whose values
 * belong to no moment.
 * @param server in a transaction; other sessions' locks are waited for as long as it says
 * @returns why its rows cannot be counted, where they cannot
 * @throws the server's error where there is no lock to be had
 */
export async function holdStill(server: Server, relation: Relation): Promise<string | undefined> {
  if (!relation.isReadable) return 'the role may not read it'
  if (relation.isFiltered) return 'row security hides some of its rows from the role'
  if (!relation.isPopulated) return 'it was never filled'
  if (relation.relkind === 'S') return undefined
  const place = placeOf(relation)
  // LOCK TABLE takes no materialized views.
  await server.query(`SELECT FROM ONLY ${place} LIMIT 0`)
  // Functions see the relation as it is now, whatever the snapshot shows.
  const { isSame } = await server.one<{ isSame: boolean }>(
    `SELECT to_regclass($1)::oid = $2::oid AND pg_relation_filenode($2::oid) = $3::oid AS "isSame"`,
    [place, relation.oid, relation.filenode],
  )
  return isSame ? undefined : 'it was truncated or rewritten meanwhile'
}
