/** What an archive of `pg_dump` says of itself, and what it holds. */
export interface ArchiveList {
  header: ArchiveHeader
  entries: ArchiveEntry[]
}

export interface ArchiveHeader {
  /** With spaces for line breaks. */
  database: string
  /** When it was made, as the program writes it: `2026-11-20 17:29:00 UTC`. */
  createdAt: string
  /** Of the archive's format: `1.14-0`. */
  formatVersion: string
  /** `CUSTOM`, `DIRECTORY`, `TAR`. */
  format: string
  /** `gzip`, `zstd`, `lz4` or `none`; before 16 zlib's level, where -1 is the default and 0 none. */
  compression: string
  /** All entries, also those that a list leaves out. */
  entries: number
  /** Of `pg_dump`, and of the server: `15.18 (Debian 15.18-0+deb12u1)`. */
  dumpVersion: string
  serverVersion: string
}

/** One entry of the table of contents. */
export interface ArchiveEntry {
  dumpId: number
  /** `TABLE`, `TABLE DATA`, `FK CONSTRAINT`... */
  type: string
  /** undefined for what lies in no schema */
  schema: string | undefined
  /** As the archive tags it: `f(integer)` of a function, `t t_pkey` of a constraint, `TABLE t` of a comment or privilege. */
  name: string
  /** Empty for what has no owner, such as an extension. */
  owner: string
}

/**
 * The types of entries that have more than one word; all others have one.
 * @see src/bin/pg_dump/pg_dump.c, of 13 to 18: the descriptions given to ArchiveEntry()
 */
const TYPES_OF_WORDS = [
  'ACCESS METHOD',
  'ACL LANGUAGE',
  'BLOB COMMENTS',
  'BLOB METADATA',
  'CHECK CONSTRAINT',
  'DATABASE PROPERTIES',
  'DEFAULT ACL',
  'EVENT TRIGGER',
  'FK CONSTRAINT',
  'FOREIGN DATA WRAPPER',
  'FOREIGN SERVER',
  'FOREIGN TABLE',
  'INDEX ATTACH',
  'LARGE OBJECT',
  'MATERIALIZED VIEW',
  'MATERIALIZED VIEW DATA',
  'OPERATOR CLASS',
  'OPERATOR FAMILY',
  'PROCEDURAL LANGUAGE',
  'PUBLICATION TABLE',
  'PUBLICATION TABLES IN SCHEMA',
  'ROW SECURITY',
  'SECURITY LABEL',
  'SEQUENCE OWNED BY',
  'SEQUENCE SET',
  'SHELL TYPE',
  'STATISTICS DATA',
  'SUBSCRIPTION TABLE',
  'TABLE ATTACH',
  'TABLE DATA',
  'TEXT SEARCH CONFIGURATION',
  'TEXT SEARCH DICTIONARY',
  'TEXT SEARCH PARSER',
  'TEXT SEARCH TEMPLATE',
  'USER MAPPING',
].sort((one, other) => other.length - one.length)

const NO_SCHEMA = '-'

/** What is known of the names in a list: those that have spaces in them are recognized. */
export interface KnownNames {
  /** Of the database, and so of the list; UTF-8 when left out. */
  encoding?: string
  schemas?: string[]
  /** Of roles. */
  owners?: string[]
}

/**
 * Reads what `pg_restore --list` writes. Nothing is quoted there, so that spaces in names make a line ambiguous:
 *
 * - A schema ends at the first space, unless it is known; the schemas that the archive makes itself are.
 * - An owner begins behind the last space, unless it is known.
 * - `TABLE DATA t x` is a table in the schema "DATA", since there are too few words for the data of a table; if its name
 *   had a space it would be taken for data. The same goes for each type whose first words are a type.
 * - The program makes spaces of the line breaks in names.
 *
 * So a restore selects by `dumpId`, and a name is for people.
 * @see src/bin/pg_dump/pg_backup_archiver.c: PrintTOCSummary, sanitize_line
 */
export function parseArchiveList(text: string, known: KnownNames = {}): ArchiveList {
  const lines = text.split('\n')
  return {
    header: headerOf(lines),
    entries: entriesOf(
      lines.flatMap((line) => bareEntry(line) ?? []),
      known,
    ),
  }
}

function headerOf(lines: string[]): ArchiveHeader {
  // The first of each counts: an entry cannot look like one, since it begins with a number.
  const fields = new Map<string, string>()
  for (const line of lines) {
    const [, key, value] = /^; {5}([\w ]+): (.*)/s.exec(line) ?? []
    if (key !== undefined && !fields.has(key)) fields.set(key, value!)
  }
  const field = (key: string) => fields.get(key) ?? ''
  return {
    database: field('dbname'),
    createdAt: lines.map((line) => /^; Archive created at (.*)/.exec(line)?.[1]).find(Boolean) ?? '',
    formatVersion: field('Dump Version'),
    format: field('Format'),
    compression: field('Compression'),
    entries: Number(field('TOC Entries')),
    dumpVersion: field('Dumped by pg_dump version'),
    serverVersion: field('Dumped from database version'),
  }
}

interface BareEntry {
  dumpId: number
  type: string
  /** Schema, name and owner, with a space between them. */
  rest: string
}

function bareEntry(line: string): BareEntry | undefined {
  const [, dumpId, description] = /^(\d+); \d+ \d+ (.*)/s.exec(line) ?? []
  if (description === undefined) return undefined
  const restBehind = (type: string) => description.slice(type.length + 1)
  const type =
    TYPES_OF_WORDS.find((words) => description.startsWith(`${words} `) && / .* /s.test(restBehind(words))) ??
    description.split(' ', 1)[0]!
  return { dumpId: Number(dumpId), type, rest: restBehind(type) }
}

function entriesOf(bare: BareEntry[], known: KnownNames): ArchiveEntry[] {
  const owners = new Set(known.owners)
  const own = bare.flatMap(({ type, rest }) =>
    type === 'SCHEMA' ? splitOwner(rest.slice(`${NO_SCHEMA} `.length), owners).name : [],
  )
  const schemas = new Set([...(known.schemas ?? []), ...own])
  return bare.map(({ dumpId, type, rest }) => {
    const schema = longestStart(rest, schemas) ?? rest.split(' ', 1)[0]!
    const { name, owner } = splitOwner(rest.slice(schema.length + 1), owners)
    return { dumpId, type, schema: schema === NO_SCHEMA ? undefined : schema, name, owner }
  })
}

function longestStart(text: string, names: ReadonlySet<string>): string | undefined {
  for (let at = text.lastIndexOf(' '); at > 0; at = text.lastIndexOf(' ', at - 1)) {
    const start = text.slice(0, at)
    if (names.has(start)) return start
  }
  return undefined
}

function splitOwner(text: string, owners: ReadonlySet<string>): { name: string; owner: string } {
  const owner = longestEnd(text, owners) ?? text.slice(text.lastIndexOf(' ') + 1)
  return { name: text.slice(0, -owner.length - 1), owner }
}

function longestEnd(text: string, names: ReadonlySet<string>): string | undefined {
  for (let at = text.indexOf(' '); at >= 0; at = text.indexOf(' ', at + 1)) {
    const end = text.slice(at + 1)
    if (names.has(end)) return end
  }
  return undefined
}
