import type { KeptPin } from '../catalog/kept-pin.ts'
import type { DumpedDatabase, LogicalRecord } from '../catalog/logical-record.ts'
import type { Repository } from '../catalog/repository.ts'
import { choiceText, selectionText } from '../catalog/selection-text.ts'
import { renderTable } from '../cli/table.ts'
import { formatBytes, formatCount } from '../cli/units.ts'
import { PgrecallError } from '../errors.ts'
import { type ContentsEntry, readContents } from '../logical/contents.ts'
import type { CommandContext, Outcome } from './context.ts'
import { pinFacts, pinText } from './pin-text.ts'
import { seconds } from './wal-text.ts'

/** How many of each kind are told of a database; the rest is in `--contents`. */
const TYPES_SHOWN = 6

/**
 * Everything that is recorded of a logical backup, or with `--contents` each thing that is inside of its dumps.
 * @param folder where it lies, for people
 */
export async function showLogical(
  repository: Repository,
  record: LogicalRecord,
  options: Record<string, unknown>,
  folder: string,
  pins: readonly KeptPin[],
  context: Pick<CommandContext, 'view'>,
): Promise<Outcome> {
  const { name } = repository
  if (!options.contents) {
    const json = { repository: name, ...record, pins: pins.map(pinFacts) }
    return { text: recordText(record, name, folder, pins, context), json }
  }
  const entries = await chosenEntries(repository, record, options)
  return {
    text: contentsText(entries, context),
    json: { repository: name, id: record.id, contents: entries },
  }
}

async function chosenEntries(
  repository: Repository,
  record: LogicalRecord,
  options: Record<string, unknown>,
): Promise<ContentsEntry[]> {
  const database = options.database as string | undefined
  const type = (options.type as string | undefined)?.toUpperCase()
  if (database !== undefined && !record.databases.some(({ name }) => name === database)) {
    const names = record.databases.map(({ name }) => `"${name}"`).join(', ')
    throw new PgrecallError('absent', `backup ${record.id} has no database "${database}"`, {
      hint: names === '' ? 'it is one script of the whole cluster' : `it has ${names}`,
    })
  }
  const contents = readContents(repository, record)
  if (!contents) {
    throw new PgrecallError('absent', `backup ${record.id} has no list of what is inside`, {
      hint: 'one script has none',
    })
  }
  const chosen: ContentsEntry[] = []
  for await (const entry of contents) {
    const isChosen =
      (database === undefined || entry.database === database) && (type === undefined || entry.type === type)
    if (isChosen) chosen.push(entry)
  }
  return chosen
}

function contentsText(entries: readonly ContentsEntry[], { view }: Pick<CommandContext, 'view'>): string {
  if (entries.length === 0) return 'There is nothing of that kind in the backup.'
  return renderTable(
    [
      { title: 'Database' },
      { title: 'Type', whole: true },
      { title: 'Schema' },
      { title: 'Name', style: 'bold' },
      { title: 'Owner', leaveOut: 0 },
    ],
    entries.map(({ database, type, schema = '-', name, owner }) => [database, type, schema, name, owner]),
    view,
  )
}

function recordText(
  record: LogicalRecord,
  repository: string,
  folder: string,
  pins: readonly KeptPin[],
  { view }: Pick<CommandContext, 'view'>,
): string {
  const list = renderTable(
    [
      { title: '', style: 'bold', whole: true },
      { title: '', wraps: true },
    ],
    [
      ...factsOf(record, repository, folder),
      ...pins.map((pin): [string, string] => ['Pinned', pinText(pin)]),
    ],
    view,
  )
  const objects = renderTable(
    [{ title: 'Object' }, { title: 'Kind' }, { title: 'Stored', align: 'right' }, { title: 'SHA-256' }],
    record.objects.map(({ name, kind, bytes, sha256 }) => [
      name,
      kind,
      formatBytes(bytes),
      `${sha256.slice(0, 16)}…`,
    ]),
    view,
  )
  const databases = record.databases.length > 0 ? [databaseTable(record.databases, view)] : []
  return [list.trimStart(), ...databases, objects].join('\n\n')
}

function factsOf(record: LogicalRecord, repository: string, folder: string): string[][] {
  const { form, hasGlobals, choice, selection, recipients, compressedBy, codec } = record
  const what =
    form === 'script'
      ? `one script of pg_dumpall ${record.dumpVersion}`
      : `an archive of pg_dump ${record.dumpVersion} for each database`
  return [
    ['Backup', record.id],
    ['Cluster', `${record.cluster} (system identifier ${record.systemIdentifier})`],
    ['Repository', `${repository}, ${folder}`],
    ['Label', record.label || '-'],
    ['PostgreSQL', record.postgres.text],
    ['Method', `logical: ${what}`],
    ['Compressed', `${codec}, by ${compressedBy === 'pg_dump' ? 'pg_dump itself' : 'pgrecall'}`],
    ...(recipients ? [['Encrypted', `for ${formatCount(recipients.length, 'public key')}`]] : []),
    ...(record.fromStandby ? [['Taken from', 'a standby']] : []),
    ['Started', seconds(record.startedAt)],
    ['Finished', seconds(record.finishedAt)],
    ['Roles', hasGlobals ? 'included, with tablespaces' : 'not included'],
    ...(choice ? [['Databases', choiceText(choice)]] : []),
    ...(selection ? [['Selection', selectionText(selection)]] : []),
    ['Dumped', formatBytes(record.dumpedBytes)],
    ['Stored', `${formatBytes(record.storedBytes)} in ${formatCount(record.objects.length, 'object')}`],
    ['By hand', `${folder}RESTORE.txt`],
    ...record.warnings.map((text) => ['Warning', text]),
  ]
}

function databaseTable(databases: readonly DumpedDatabase[], view: CommandContext['view']): string {
  return renderTable(
    [
      { title: 'Database', style: 'bold', whole: true },
      { title: 'Owner', leaveOut: 1 },
      { title: 'Encoding', whole: true, leaveOut: 2 },
      { title: 'On the server', align: 'right', leaveOut: 0 },
      { title: 'As of', whole: true },
      { title: 'LSN', whole: true, leaveOut: 3 },
      { title: 'Contents' },
    ],
    databases.map((database) => [
      database.name,
      database.owner,
      database.encoding,
      formatBytes(database.bytes),
      seconds(database.time),
      database.lsn,
      countsText(database.contents),
    ]),
    view,
  )
}

/** What there is most of. */
function countsText(contents: DumpedDatabase['contents']): string {
  const counts = Object.entries(contents).toSorted(([, a], [, b]) => b - a)
  const shown = counts.slice(0, TYPES_SHOWN).map(([type, count]) => `${count} ${type}`)
  const more = counts.slice(TYPES_SHOWN).reduce((sum, [, count]) => sum + count, 0)
  return [...shown, ...(more > 0 ? [`${more} more`] : [])].join(', ')
}
