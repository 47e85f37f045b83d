import { PgrecallError } from '../errors.ts'
import { type ArchiveEntry, type KnownNames, parseArchiveList } from '../postgres/archive-list.ts'
import { programFailure } from '../postgres/client-errors.ts'
import type { Environment, Program } from '../postgres/client-programs.ts'
import { decodeNames } from '../postgres/name-decoder.ts'
import type { ArchiveInput } from '../postgres/pg-restore.ts'
import { ProgramRun } from '../postgres/program-run.ts'
import { matches } from './choose-databases.ts'
import type { RestoreChoice } from './restore-request.ts'

/** A thing in an archive, and what must be there before it. */
export interface LinkedEntry extends ArchiveEntry {
  dependsOn: number[]
}

/** What of an archive is restored. */
export interface ChosenEntries {
  /** Dump ids, in the order of the archive. */
  ids: number[]
  /** What belongs to a chosen table, and is left out since it needs something that was not chosen. */
  leftOut: string[]
}

const RELATIONS = ['TABLE', 'VIEW', 'MATERIALIZED VIEW', 'FOREIGN TABLE', 'SEQUENCE']
/** In a dump of data only, all that there is of a table. */
const ROWS = ['TABLE DATA', 'MATERIALIZED VIEW DATA', 'SEQUENCE SET']
/** What comes along with the table that it depends on. */
const PARTS = [
  ...['DEFAULT', 'CONSTRAINT', 'CHECK CONSTRAINT', 'FK CONSTRAINT', 'INDEX', 'INDEX ATTACH', 'TABLE ATTACH'],
  ...['TRIGGER', 'RULE', 'POLICY', 'ROW SECURITY', 'STATISTICS', 'STATISTICS DATA', 'SEQUENCE OWNED BY'],
  ...['SEQUENCE', 'SEQUENCE SET', 'COMMENT', 'ACL', 'SECURITY LABEL', 'TABLE DATA', 'MATERIALIZED VIEW DATA'],
]
/** What a part may only come along with. */
const NEEDED = [...RELATIONS, 'INDEX', 'CONSTRAINT']

/**
 * The list of an archive, with what depends on what: only a list that is told to be verbose has that.
 * @throws PgrecallError as `listArchive`
 */
export async function linkedEntries(
  program: Program,
  env: Environment,
  input: ArchiveInput,
  known: KnownNames,
  signal: AbortSignal,
): Promise<LinkedEntry[]> {
  const file = 'file' in input ? [input.file] : []
  await using run = new ProgramRun(program, env, {
    args: ['--list', '--verbose', '--create', ...file],
    input: !('file' in input),
    signal,
  })
  const reading = Array.fromAsync(run.stdout)
  reading.catch(() => {})
  if (!('file' in input)) await run.writeAll(input)
  const end = await run.ended()
  if (!end.isGood) throw programFailure('pg_restore --list', run.words, end)
  return parseLinkedEntries(decodeNames(Buffer.concat(await reading), known.encoding), known)
}

/** Exported for tests. */
export function parseLinkedEntries(text: string, known: KnownNames = {}): LinkedEntry[] {
  const needs = new Map<number, number[]>()
  let dumpId = 0
  for (const line of text.split('\n')) {
    dumpId = Number(/^(\d+); /.exec(line)?.[1] ?? dumpId)
    const ids = /^;\tdepends on:([\d ]*)/.exec(line)?.[1]
    if (ids !== undefined) needs.set(dumpId, ids.trim().split(' ').map(Number))
  }
  return parseArchiveList(text, known).entries.map((entry) => ({
    ...entry,
    dependsOn: needs.get(entry.dumpId) ?? [],
  }))
}

/**
 * What of an archive is asked for. A table comes with its rows, defaults, constraints, indexes, triggers, policies,
 * comments, privileges, partitions and its own sequences, unlike with `pg_restore --table`; a foreign key only together with
 * the table that it refers to. Pure.
 * @param existingSchemas of the target: those that chosen tables lie in are made where they are missing
 * @param dumpVersion major version of the `pg_dump` that made the archive
 * @throws PgrecallError `absent` for a pattern that nothing in the archive has
 */
export function chooseEntries(
  entries: readonly LinkedEntry[],
  choice: RestoreChoice,
  existingSchemas: readonly string[],
  dumpVersion: number,
): ChosenEntries {
  requireMatches(entries, choice)
  const inSchemas = entries.filter((entry) => isInSchemas(entry, choice, existingSchemas))
  if (choice.tables.length === 0) return { ids: inSchemas.map(({ dumpId }) => dumpId), leftOut: [] }
  const { chosen, tables } = withParts(inSchemas, choice, dumpVersion)
  const schemas = new Set(tables.map(({ schema }) => schema))
  const isMissing = (name: string | undefined) => schemas.has(name) && !existingSchemas.includes(name!)
  for (const { type, name, dumpId } of entries) if (type === 'SCHEMA' && isMissing(name)) chosen.add(dumpId)
  const leftOut = inSchemas.filter(
    (entry) =>
      PARTS.includes(entry.type) &&
      !chosen.has(entry.dumpId) &&
      tables.some(({ schema, name }) => schema === entry.schema && entry.name.startsWith(`${name} `)),
  )
  return {
    ids: entries.map(({ dumpId }) => dumpId).filter((id) => chosen.has(id)),
    leftOut: leftOut.map(({ type, schema, name }) => `${type} ${schema}.${name}`),
  }
}

/** An archive in three, each of which can be restored by another session. */
export interface EntryParts {
  before: LinkedEntry[]
  /** No owners and no privileges are in these. */
  rows: LinkedEntry[]
  after: LinkedEntry[]
}

/** Types of rows that name no role, unlike large objects themselves. */
const PLAIN_ROWS = ['TABLE DATA', 'BLOBS', 'SEQUENCE SET']
const LARGE_OBJECTS = ['BLOB', 'BLOB METADATA']
const PRIVILEGES = ['ACL', 'ACL LANGUAGE', 'DEFAULT ACL']

/**
 * What is restored before the rows, the rows, and what comes behind, where privileges are too: they could keep the owner from
 * writing. In the order of the archive. Pure.
 */
export function partsOf(entries: readonly LinkedEntry[]): EntryParts {
  const first = entries.findIndex(({ type }) => PLAIN_ROWS.includes(type))
  const isBefore = ({ type }: LinkedEntry, index: number) =>
    LARGE_OBJECTS.includes(type) || ((first < 0 || index < first) && !PRIVILEGES.includes(type))
  const isRows = ({ type }: LinkedEntry) => PLAIN_ROWS.includes(type)
  return {
    before: entries.filter(isBefore),
    rows: entries.filter(isRows),
    after: entries.filter((entry, index) => !isRows(entry) && !isBefore(entry, index)),
  }
}

/** The privileges and comments of the database itself. */
export function databaseEntries(entries: readonly LinkedEntry[]): number[] {
  const isOwn = ({ type, schema, name }: LinkedEntry) =>
    ['ACL', 'COMMENT', 'SECURITY LABEL'].includes(type) &&
    schema === undefined &&
    name.startsWith('DATABASE ')
  return entries.filter(isOwn).map(({ dumpId }) => dumpId)
}

/** Up to 13 a partition is no more than a table that depends on another one, as those are that inherit: all of them come along. */
const FIRST_WITH_ATTACH = 14

function withParts(
  entries: readonly LinkedEntry[],
  { tables: patterns }: RestoreChoice,
  dumpVersion: number,
) {
  const isAsked = ({ schema, name }: LinkedEntry) =>
    patterns.some((pattern) => matches(name, pattern) || matches(`${schema}.${name}`, pattern))
  const tables = entries.filter(({ type }) => RELATIONS.includes(type)).filter(isAsked)
  const rows = entries.filter(({ type }) => ROWS.includes(type)).filter(isAsked)
  const chosen = new Set([...tables, ...rows].map(({ dumpId }) => dumpId))
  const byId = new Map(entries.map((entry) => [entry.dumpId, entry]))
  const bring = (table: LinkedEntry) => {
    chosen.add(table.dumpId)
    tables.push(table)
  }
  const isMet = (id: number) => chosen.has(id) || !NEEDED.includes(byId.get(id)?.type ?? '')
  for (let before = -1; before < chosen.size; ) {
    before = chosen.size
    for (const entry of entries) {
      const { type, dumpId, dependsOn } = entry
      const isTable = type === 'TABLE' || type === 'FOREIGN TABLE'
      if (dumpVersion < FIRST_WITH_ATTACH && isTable && !chosen.has(dumpId))
        if (tables.some((table) => dependsOn.includes(table.dumpId))) bring(entry)
      if (!PARTS.includes(type) || chosen.has(dumpId)) continue
      if (type === 'TABLE ATTACH') {
        const [partition, parent] = attached(entry, byId)
        if (partition && parent && chosen.has(parent.dumpId) && !chosen.has(partition.dumpId))
          bring(partition)
      }
      // In a dump of rows only they are in the order of foreign keys, and depend on one another.
      if (type === 'TABLE DATA' && !tables.some((table) => dependsOn.includes(table.dumpId))) continue
      // The sequence of a serial column is the table's, and knows it by this entry only.
      const owned = type === 'SEQUENCE OWNED BY' && tables.some((table) => dependsOn.includes(table.dumpId))
      if (owned) for (const id of dependsOn) chosen.add(id)
      if (dependsOn.some((id) => chosen.has(id)) && dependsOn.every(isMet)) chosen.add(dumpId)
    }
  }
  return { chosen, tables: [...tables, ...rows] }
}

/** The entry that attaches a partition is called as that is. */
function attached({ schema, name, dependsOn }: LinkedEntry, byId: ReadonlyMap<number, LinkedEntry>) {
  const relations = dependsOn
    .flatMap((id) => byId.get(id) ?? [])
    .filter(({ type }) => RELATIONS.includes(type))
  const isPartition = (entry: LinkedEntry) => entry.schema === schema && entry.name === name
  return [relations.find(isPartition), relations.find((entry) => !isPartition(entry))]
}

function isInSchemas(
  { type, schema, name }: LinkedEntry,
  { schemas, excludeSchemas }: RestoreChoice,
  existing: readonly string[],
): boolean {
  const own = type === 'SCHEMA' ? name : (schema ?? /^SCHEMA (.*)/s.exec(name)?.[1])
  if (type === 'SCHEMA' && schemas.length > 0 && existing.includes(name)) return false
  if (own === undefined) return schemas.length === 0
  const isOneOf = (patterns: readonly string[]) => patterns.some((pattern) => matches(own, pattern))
  return (schemas.length === 0 || isOneOf(schemas)) && !isOneOf(excludeSchemas)
}

function requireMatches(
  entries: readonly LinkedEntry[],
  { tables, schemas, excludeSchemas }: RestoreChoice,
): void {
  const relations = entries.filter(({ type }) => RELATIONS.includes(type) || ROWS.includes(type))
  const table = tables.find(
    (pattern) =>
      !relations.some(({ schema, name }) => matches(name, pattern) || matches(`${schema}.${name}`, pattern)),
  )
  const schema = [...schemas, ...excludeSchemas].find(
    (pattern) =>
      !entries.some((entry) => matches((entry.type === 'SCHEMA' ? entry.name : entry.schema) ?? '', pattern)),
  )
  const missing = table === undefined ? schema && `schema "${schema}"` : `table "${table}"`
  if (missing === undefined) return
  throw new PgrecallError('absent', `the backup has no ${missing}`, {
    hint: '"pgrecall show ID --contents" shows what it has; "*" and "?" stand for any characters',
  })
}
