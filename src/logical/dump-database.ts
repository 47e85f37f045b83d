import { codecSuffix } from '../archive/codec.ts'
import { compressed } from '../archive/compressed.ts'
import type { StoredIn } from '../backup/backup-store.ts'
import type { DumpedDatabase, LogicalObject } from '../catalog/logical-record.ts'
import type { ArchiveEntry } from '../postgres/archive-list.ts'
import { type DumpableDatabase, type Snapshot, takeSnapshot } from '../postgres/dumpable.ts'
import { inDatabase } from '../postgres/in-database.ts'
import { formatLsn } from '../postgres/lsn.ts'
import { type DumpOptions, pgDump } from '../postgres/pg-dump.ts'
import { ArchiveListing } from '../postgres/pg-restore.ts'
import { dumpSelection } from './dump-selection.ts'
import type { LogicalRun } from './logical-run.ts'

/** The dump of one database as it is stored, and what it holds. */
export interface StoredDump {
  database: DumpedDatabase
  entries: ArchiveEntry[]
  /** By the repository's name. */
  stored: StoredIn
  facts: Pick<LogicalObject, 'kind' | 'database' | 'archive' | 'plainBytes'>
}

/**
 * Dumps a database, as it is in one moment, into all repositories at once; its table of contents is read on the way.
 * @param name of its object, without an ending
 * @param onBytes hears of what `pg_dump` gives out
 */
export async function dumpDatabase(
  run: LogicalRun,
  database: DumpableDatabase,
  name: string,
  onBytes: (bytes: number) => void,
): Promise<StoredDump> {
  const { source, plan, events } = run
  await using session = await source.connect(inDatabase(source.connection, database.name))
  const snapshot = await takeSnapshot(session)
  const signal = AbortSignal.any([run.signal, session.lost])
  events.emit('detail', { text: `Dumping database "${database.name}" as of ${formatLsn(snapshot.lsn)}` })
  let bytes = 0
  const dump = pgDump(plan.programs.dump, source.env, dumpOptions(run, database, snapshot, signal))
  const counted = withCount(dump, (count) => {
    bytes += count
    onBytes(count)
  })
  await using listing = new ArchiveListing(plan.programs.restore, source.env, { signal })
  const stored = await storeDump(run, name, listing.tee(counted), signal)
  const { entries } = await listing.result()
  return {
    database: recordOf(database, snapshot, entries),
    entries,
    stored,
    facts: { kind: 'dump', database: database.oid, archive: 'custom', plainBytes: bytes },
  }
}

function storeDump(
  { request: { codec }, plan, store }: LogicalRun,
  name: string,
  dump: AsyncIterable<Buffer>,
  signal: AbortSignal,
): Promise<StoredIn> {
  const isOurs = plan.compressedBy === 'pgrecall'
  const suffix = isOurs ? codecSuffix(codec) : ''
  return store.put(`${name}.dump${suffix}`, isOurs ? compressed(codec, dump) : dump, { signal })
}

function dumpOptions(
  { request, plan, source, warnings }: LogicalRun,
  database: DumpableDatabase,
  snapshot: Snapshot,
  signal: AbortSignal,
): DumpOptions & { format: 'custom' } {
  const { lockWaitMs, selection } = request
  return {
    connection: { ...inDatabase(source.connection, database.name), database: database.name },
    format: 'custom',
    snapshot: snapshot.id,
    compress: plan.compress,
    selection: dumpSelection(selection),
    extra: [...(selection.extra ?? [])],
    ...(lockWaitMs !== undefined && { lockWaitMs }),
    signal,
    onWarning: (text) => void warnings.push(`database "${database.name}": ${text}`),
  }
}

function recordOf(
  { isTemplate: _template, allowsConnections: _open, mayConnect: _may, locale, ...facts }: DumpableDatabase,
  { lsn, time }: Snapshot,
  entries: readonly ArchiveEntry[],
): DumpedDatabase {
  const contents: Record<string, number> = {}
  for (const { type } of entries) contents[type] = (contents[type] ?? 0) + 1
  return { ...facts, ...(locale !== undefined && { locale }), lsn: formatLsn(lsn), time, contents }
}

async function* withCount(
  pieces: AsyncIterable<Buffer>,
  onBytes: (bytes: number) => void,
): AsyncGenerator<Buffer> {
  for await (const piece of pieces) {
    onBytes(piece.length)
    yield piece
  }
}
