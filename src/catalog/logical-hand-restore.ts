import { decodeCommand, methodOf } from '../archive/codec.ts'
import type { LogicalDraft, LogicalObject } from './logical-record.ts'
import { isSealed } from './sealed-object.ts'

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
    next('Roles and tablespaces. What exists already makes an error, which does no harm.')
    lines.push(`${readCommand(globals)} | psql -X -q -d postgres`, ``)
  }
  const script = record.objects.find(({ kind }) => kind === 'script')
  if (script) {
    next('Everything, as one script.')
    lines.push(`${readCommand(script)} | psql -X -q -d postgres`, ``)
  }
  const dumps = record.objects.filter(({ kind }) => kind === 'dump')
  for (const dump of dumps) {
    const { name } = record.databases.find(({ oid }) => oid === dump.database)!
    next(`The database ${comment(name)}.`)
    lines.push(...restoreLines(dump, name), ``)
  }
  return `${lines.join('\n')}\n`
}

/** An archive in one file can be read from a pipe, one of the directory format has to be unpacked. */
function restoreLines(dump: LogicalObject, name: string): string[] {
  const into = ALWAYS_THERE.includes(name) ? `-d ${quote(conninfo(name))}` : '-C -d postgres'
  if (dump.archive !== 'directory') return [`${readCommand(dump)} | pg_restore ${into}`]
  return [
    `FOLDER=$(mktemp -d)`,
    `${readCommand(dump)} | tar -xf - -C "$FOLDER"`,
    `pg_restore -j "\${JOBS:-4}" ${into} "$FOLDER"; rm -r "$FOLDER"`,
  ]
}

function headLines(record: LogicalDraft): string[] {
  const { databases } = record
  const list = databases.map(({ name }) => comment(name)).join(', ')
  return [
    `# How to restore this logical backup by hand, without pgrecall.`,
    `#`,
    `#   backup      ${record.id} of cluster ${comment(record.cluster)}`,
    `#   PostgreSQL  ${comment(record.postgres.text)}, dumped by pg_dump ${record.dumpVersion}`,
    `#   databases   ${list}`,
    `#`,
    `# You need: ${tools(record).join(', ')}, and psql and pg_restore of PostgreSQL ${record.dumpVersion} or later.`,
    `# ${compressionText(record)}`,
    `# The server is the one that PGHOST, PGPORT and PGUSER say; it may be of the same or of a later major version.`,
    `# Follow the steps, or run this text as a shell script:`,
    `#`,
    `#   ${record.recipients ? 'IDENTITY=/secret/key.txt ' : ''}sh RESTORE.txt`,
    ``,
    `set -u`,
    `# This folder:`,
    `BACKUP=\${BACKUP:-$(cd "$(dirname "$0")" && pwd)}`,
    ...(record.recipients
      ? [
          `# The secret key of one of these public keys:`,
          ...record.recipients.map((recipient) => `#   ${recipient}`),
          `: "\${IDENTITY:?say which file holds the secret key: IDENTITY=/secret/key.txt sh RESTORE.txt}"`,
        ]
      : []),
    ``,
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

function readCommand({ name }: LogicalObject): string {
  const decode = decodeCommand(methodOf(name))
  const file = `"$BACKUP/${name}"`
  if (isSealed(name))
    return decode === 'cat' ? `age -d -i "$IDENTITY" ${file}` : `age -d -i "$IDENTITY" ${file} | ${decode}`
  return `${decode} ${file}`
}

/** For a shell. */
const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`
/** Said in full, since a name that looks like a connection string would be read as one. */
const conninfo = (name: string) => `dbname='${name.replace(/['\\]/g, '\\$&')}'`
/** A name cannot leave the line that it is told on. */
const comment = (text: string) => text.replace(/[\u0000-\u001f\u007f]/g, '?')
