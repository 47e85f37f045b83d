import { decodeCommand, methodOf } from '../archive/codec.ts'
import type { LogicalDraft, LogicalObject } from './logical-record.ts'
import { isSealed } from './sealed-object.ts'
import { selectionText } from './selection-text.ts'

/** Databases that every cluster has from the start, and so are not made. */
const ALWAYS_THERE = ['postgres', 'template1']

/**
 * `RESTORE.txt` of a logical backup: how a person restores it with a shell and PostgreSQL's own programs, and a shell script
 * that does so.
 */
export function logicalRestoreText(record: LogicalDraft): string {
  const lines = headLines(record)
  let step = 0
  const next = (text: string) => lines.push(`# ${++step}. ${text}`)
  const globals = record.objects.find(({ kind }) => kind === 'globals')
  if (globals) {
    next(
      'Roles and tablespaces. A role that exists makes an error, and gets the attributes and the password of the backup.',
    )
    lines.push(`${readCommand(globals)} | psql -X -q -d postgres || STATUS=1`, ``)
  }
  const script = record.objects.find(({ kind }) => kind === 'script')
  if (script) {
    next('Everything, as one script.')
    lines.push(`${readCommand(script)} | psql -X -q -d postgres || STATUS=1`, ``)
  }
  for (const dump of dumpsOf(record)) {
    next(`The database ${comment(nameOf(record, dump))}.`)
    lines.push(...restoreLines(record, dump), ``)
  }
  lines.push(
    `# 0 if nothing was refused and all could be read.`,
    `[ ! -s "$UNREAD" ] || STATUS=1`,
    `exit "$STATUS"`,
  )
  return `${lines.join('\n')}\n`
}

const dumpsOf = ({ objects }: LogicalDraft) => objects.filter(({ kind }) => kind === 'dump')

const nameOf = ({ databases }: LogicalDraft, dump: LogicalObject) =>
  databases.find(({ oid }) => oid === dump.database)!.name

/** An archive in one file can be read from a pipe, one of the directory format has to be unpacked. */
function restoreLines(record: LogicalDraft, dump: LogicalObject): string[] {
  const name = nameOf(record, dump)
  const isThere = ALWAYS_THERE.includes(name)
  const into = needsDatabase(record)
    ? `-d "$${variableOf(record, dump)}"`
    : isThere
      ? `-d ${quote(conninfo(name))}`
      : '-C -d postgres'
  const remarks =
    isThere && !needsDatabase(record)
      ? [
          `# What ALTER DATABASE ... SET and GRANT ... ON DATABASE said of it is not restored so; "pg_restore -C -s -f -" prints it.`,
        ]
      : []
  if (dump.archive !== 'directory')
    return [...remarks, `${readCommand(dump)} | pg_restore ${into} || STATUS=1`]
  return [
    ...remarks,
    `FOLDER=$(mktemp -d) || exit 1`,
    `${readCommand(dump)} | tar -xf - -C "$FOLDER" && pg_restore -j "\${JOBS:-4}" ${into} "$FOLDER" || STATUS=1`,
    `rm -r "$FOLDER"`,
  ]
}

/** Whether the dumps are of parts that a new database does not have the rest of. */
function needsDatabase({ form, selection = {} }: LogicalDraft): boolean {
  const { tables, schemas, only, extra } = selection
  if (form === 'script') return false
  return only === 'data' || [tables, schemas, extra].some((list) => (list?.length ?? 0) > 0)
}

/** Says into which database a dump of parts goes. */
function variableOf(record: LogicalDraft, dump: LogicalObject): string {
  return dumpsOf(record).length === 1 ? 'DATABASE' : `DATABASE_${dump.database}`
}

function headLines(record: LogicalDraft): string[] {
  const { databases } = record
  const list = databases.map(({ name }) => comment(name)).join(', ')
  const targets = needsDatabase(record)
    ? dumpsOf(record).map((dump) => ({ variable: variableOf(record, dump), name: nameOf(record, dump) }))
    : []
  const settings = [
    ...(record.recipients ? ['IDENTITY=/secret/key.txt '] : []),
    ...targets.map(({ variable }) => `${variable}=name `),
  ].join('')
  return [
    `# How to restore this logical backup by hand, without pgrecall.`,
    `#`,
    `#   backup      ${record.id} of cluster ${comment(record.cluster)}`,
    `#   PostgreSQL  ${comment(record.postgres.text)}, dumped by pg_dump ${record.dumpVersion}`,
    `#   databases   ${list}`,
    ...selectionLines(record),
    `#`,
    `# You need: ${tools(record).join(', ')}, and psql and pg_restore of PostgreSQL ${record.dumpVersion} or later.`,
    `# ${compressionText(record)}`,
    `# The server is the one that PGHOST, PGPORT and PGUSER say; it may be of the same or of a later major version.`,
    `# Follow the steps, or run this text as a shell script:`,
    `#`,
    `#   ${settings}sh RESTORE.txt`,
    ``,
    `set -u`,
    `STATUS=0`,
    `# This folder:`,
    `BACKUP=\${BACKUP:-$(cd "$(dirname "$0")" && pwd)}`,
    ...(record.recipients
      ? [
          `# The secret key of one of these public keys:`,
          ...record.recipients.map((recipient) => `#   ${recipient}`),
          `: "\${IDENTITY:?say which file holds the secret key: IDENTITY=/secret/key.txt sh RESTORE.txt}"`,
        ]
      : []),
    ...targets.map(
      ({ variable, name }) =>
        `: "\${${variable}:?say into which database that exists the dump of ${inWord(name)} goes: ${variable}=name sh RESTORE.txt}"`,
    ),
    `# What cannot be read in the middle of a pipe is noted:`,
    `UNREAD=$(mktemp) || exit 1`,
    `trap 'rm -f "$UNREAD"' EXIT`,
    `unread() { echo "$1 could not be read" >> "$UNREAD"; echo "$1 could not be read" >&2; }`,
    ``,
  ]
}

function selectionLines(record: LogicalDraft): string[] {
  if (!record.selection) return []
  return [
    `#   selection   ${comment(selectionText(record.selection))}`,
    `#`,
    `# It has only what was chosen: what that depends on may be missing.`,
    ...(needsDatabase(record) ? [`# So it goes into a database that exists and has the rest.`] : []),
  ]
}

function compressionText({ compressedBy, codec }: LogicalDraft): string {
  if (codec === 'none') return 'Nothing is compressed.'
  return compressedBy === 'pg_dump'
    ? `pg_dump compressed the archives itself (${codec}); pg_restore reads them as they are.`
    : `The archives were compressed around (${codec}), as this pg_dump could not do it itself.`
}

function tools({ objects, recipients }: LogicalDraft): string[] {
  const methods = new Set(objects.map(({ name }) => methodOf(name)))
  const folders = objects.some(({ archive }) => archive === 'directory')
  return [
    'a shell',
    ...(folders ? ['tar'] : []),
    ...[...methods].filter((method) => method !== 'none'),
    ...(recipients ? ['age'] : []),
  ]
}

/** A pipe has no status but that of its last command. */
function readCommand({ name }: LogicalObject): string {
  const decode = decodeCommand(methodOf(name))
  const file = `"$BACKUP/${name}"`
  const noted = (command: string) => `{ ${command} || unread ${name}; }`
  if (!isSealed(name)) return noted(`${decode} ${file}`)
  const decrypt = noted(`age -d -i "$IDENTITY" ${file}`)
  return decode === 'cat' ? decrypt : `${decrypt} | ${noted(decode)}`
}

/** For a shell. */
const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`
/** Said in full, since a name that looks like a connection string would be read as one. */
const conninfo = (name: string) => `dbname='${name.replace(/['\\]/g, '\\$&')}'`
/** A name cannot leave the line that it is told on. */
const comment = (text: string) => text.replace(/[\u0000-\u001f\u007f]/g, '?')
/** The same inside of a shell's word, where nothing may have a meaning. */
const inWord = (text: string) => comment(text).replace(/["$`\\{}]/g, '?')
