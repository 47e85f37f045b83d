import type { BackupRecord } from '../catalog/backup-record.ts'
import { PgrecallError } from '../errors.ts'
import { relationFork } from '../postgres/relation-file.ts'

/** Which databases a partial restore is about, by their names or oids. */
export interface DatabaseChoice {
  kind: 'include' | 'exclude'
  names: readonly string[]
}

/** A database; without a name where the backup does not know it. */
export interface Database {
  oid: string
  name: string | undefined
}

/** What a partial restore brings back. The templates, "postgres" and what all databases share are whole in any case. */
export interface PartialRestore {
  kept: Database[]
  /** Their relations become zeros of the same length, which take no space: they cannot be used, only dropped. */
  emptied: Database[]
}

/** @see src/include/access/transam.h: FirstNormalObjectId; below are the databases that initdb makes */
const FIRST_NORMAL_OID = 16_384
/** They can be dropped and made again, and then have other oids. */
const ALWAYS_WHOLE = ['template0', 'template1', 'postgres']

/**
 * Says what becomes of each database. Pure.
 * @param found the oids of the databases of which the backup has files
 * @throws PgrecallError `usage` for a database that the backup does not have, or whose name it does not know
 */
export function chooseDatabases(
  backup: Pick<BackupRecord, 'id' | 'databases'>,
  found: readonly string[],
  choice: DatabaseChoice,
): PartialRestore {
  const databases = backup.databases ?? found.map((oid) => ({ oid, name: undefined }))
  const chosen = new Set(choice.names.map((name) => requireDatabase(backup, databases, name).oid))
  const isKept = ({ oid, name }: Database) =>
    isAlwaysWhole({ oid, name }) || chosen.has(oid) === (choice.kind === 'include')
  return { kept: databases.filter(isKept), emptied: databases.filter((database) => !isKept(database)) }
}

function requireDatabase(
  { id, databases: named }: Pick<BackupRecord, 'id' | 'databases'>,
  databases: readonly Database[],
  asked: string,
): Database {
  // A name may consist of digits; so an oid comes second.
  const database = databases.find(({ name }) => name === asked) ?? databases.find(({ oid }) => oid === asked)
  if (database) return database
  const list = databases.map(({ oid, name }) => (name === undefined ? oid : `"${name}" (${oid})`)).join(', ')
  throw new PgrecallError(
    'usage',
    named
      ? `backup ${id} has no database "${asked}"`
      : `backup ${id} does not know the names of its databases, and has none with the oid "${asked}"`,
    { hint: `it has ${list || 'none'}` },
  )
}

const isAlwaysWhole = ({ oid, name }: Database) =>
  Number(oid) < FIRST_NORMAL_OID || (name !== undefined && ALWAYS_WHOLE.includes(name))

/** Whether a file of the backup is part of a database that is not brought back. @param path as in its manifest */
export function isEmptied({ emptied }: PartialRestore, path: string): boolean {
  const database = databaseOf(path)
  return database !== undefined && emptied.some(({ oid }) => oid === database)
}

/** The oid of the database whose relation a file belongs to; undefined when that is none, or it is shared. */
export function databaseOf(path: string): string | undefined {
  const database = relationFork(path)?.database
  return database === undefined || database === 0 ? undefined : String(database)
}
