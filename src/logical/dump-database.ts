import { codecSuffix } from '../archive/codec.ts'
import { compressed } from '../archive/compressed.ts'
import type { StoredIn } from '../backup/backup-store.ts'
import type { DumpedDatabase, LogicalObject } from '../catalog/logical-record.ts'
import type { ArchiveEntry, KnownNames } from '../postgres/archive-list.ts'
import { type DumpableDatabase, type Snapshot, takeSnapshot } from '../postgres/dumpable.ts'
import { inDatabase } from '../postgres/in-database.ts'
import { formatLsn } from '../postgres/lsn.ts'
import { namesWithSpaces } from '../postgres/names-with-spaces.ts'
import { type DumpOptions, pgDump } from '../postgres/pg-dump.ts'
import { ArchiveListing } from '../postgres/pg-restore.ts'
import { connectToDatabase } from './connect-to-database.ts'
import { dumpIntoFolder } from './dump-into-folder.ts'
import { nameByOid } from './dump-names.ts'
import { dumpSelection } from './dump-selection.ts'
import {
  fingerprintsOf,
  fingerprintText,
  keysOfData,
  notFound,
  type TableFingerprint,
} from './fingerprint.ts'
import { folderTar } from './folder-tar.ts'
import type { LogicalRun } from './logical-run.ts'

/** The dump of one database as it is stored, and what it holds. */
export interface StoredDump {
  database: DumpedDatabase
  entries: ArchiveEntry[]
  /** Empty where they were not asked for. */
  fingerprints: TableFingerprint[]
  /** By the repository's name. */
  stored: StoredIn
  facts: Pick<LogicalObject, 'kind' | 'database' | 'archive' | 'plainBytes'>
}

/** A database that is being dumped, as it is in one moment. */
interface DatabaseDump {
  run: LogicalRun
  database: DumpableDatabase
  known: KnownNames
  /** Of its object, without an ending. */
  name: string
  snapshot: Snapshot
  /** Aborted by the first part that fails. */
  failed: AbortController
  signal: AbortSignal
  onBytes: (bytes: number) => void
}

type Parts = Pick<StoredDump, 'entries' | 'stored' | 'fingerprints'> & { archive: 'custom' | 'directory' }

/**
 * Dumps a database, as it is in one moment, into all repositories at once; its table of contents is read on the way, and its
 * rows are counted beside.
 * @param planned as it was when the backup was planned
 * @param plannedName of its object, without an ending
 * @param onBytes hears of what `pg_dump` gives out
 * @returns undefined when the database is not there any more
 * @throws as `connectToDatabase`, `pgDump` and `BackupStore.put`
 */
export async function dumpDatabase(
  run: LogicalRun,
  planned: DumpableDatabase,
  plannedName: string,
  onBytes: (bytes: number) => void,
): Promise<StoredDump | undefined> {
  const found = await connectToDatabase(run, planned)
  if (!found) return undefined
  const { database } = found
  await using session = found.session
  const isAsPlanned = database.oid === planned.oid && database.name === planned.name
  const name = isAsPlanned ? plannedName : nameByOid(database.oid)
  if (!isAsPlanned) run.warnings.push(changedText(planned, database))
  // It is idle, for as long as the dump takes.
  await session.query('SET idle_in_transaction_session_timeout = 0')
  const known = await namesWithSpaces(session)
  const snapshot = await takeSnapshot(session)
  const failed = new AbortController()
  const signal = AbortSignal.any([run.signal, session.lost, failed.signal])
  run.events.emit('detail', {
    text: `Dumping database "${database.name}" as of ${formatLsn(snapshot.lsn)}`,
  })
  let bytes = 0
  const onCounted = (count: number) => {
    bytes += count
    onBytes(count)
  }
  const dump = { run, database, known, name, snapshot, failed, signal, onBytes: onCounted }
  const { archive, ...parts } = await (run.request.staging === undefined
    ? dumpStream(dump)
    : dumpFolder(dump))
  return {
    ...parts,
    database: recordOf(database, snapshot, parts.entries),
    facts: { kind: 'dump', database: database.oid, archive, plainBytes: bytes },
  }
}

function changedText({ name }: DumpableDatabase, present: DumpableDatabase): string {
  return name === present.name
    ? `database "${name}" was dropped and made anew meanwhile; it is in this backup as it is now`
    : `database "${name}" was renamed meanwhile, and is in this backup as "${present.name}"`
}

/** By one session: what `pg_dump` gives out is stored as it comes. */
async function dumpStream(dump: DatabaseDump): Promise<Parts> {
  const { run, known, name, signal, onBytes } = dump
  const { programs } = run.plan
  const pieces = pgDump(programs.dump, run.source.env, { ...dumpOptions(dump), format: 'custom' })
  await using listing = new ArchiveListing(programs.restore, run.source.env, {
    known,
    signal,
  })
  const stored = store(run, `${name}.dump`, listing.tee(withCount(pieces, onBytes)), signal)
  const listed = listing.result().then(({ entries }) => entries)
  return { archive: 'custom', ...(await allParts(dump, stored, listed)) }
}

/** By several sessions, into a folder, which is stored when it is whole. */
async function dumpFolder(dump: DatabaseDump): Promise<Parts> {
  const { run, known, name, signal, onBytes } = dump
  await using folder = await dumpIntoFolder(run, dumpOptions(dump), known)
  const stored = store(run, `${name}.dir.tar`, withCount(folderTar(folder.path), onBytes), signal)
  return { archive: 'directory', ...(await allParts(dump, stored, Promise.resolve(folder.entries))) }
}

/** Waits for all parts. The first that fails stops the others, and is told once they have ended. */
async function allParts(
  dump: DatabaseDump,
  stored: Promise<StoredIn>,
  listed: Promise<ArchiveEntry[]>,
): Promise<Omit<Parts, 'archive'>> {
  const { failed } = dump
  const stop = (error: unknown) => failed.abort(error)
  const counted = listed.then((entries) => fingerprints(dump, entries))
  await Promise.all([stored, listed, counted].map((part) => part.catch(stop)))
  failed.signal.throwIfAborted()
  return { stored: await stored, entries: await listed, fingerprints: await counted }
}

/** Of all rows that are in the dump, in its snapshot, by a session of its own. */
async function fingerprints(
  { run: { request, source, warnings }, database, snapshot, signal }: DatabaseDump,
  entries: readonly ArchiveEntry[],
): Promise<TableFingerprint[]> {
  if (!request.fingerprint) return []
  const { lockWaitMs } = request
  const wanted = keysOfData(entries)
  await using server = await source.connect(inDatabase(source.connection, database.name))
  const options = {
    snapshot: snapshot.id,
    only: wanted,
    ...(lockWaitMs !== undefined && { lockWaitMs }),
    signal,
  }
  const counted = await Array.fromAsync(fingerprintsOf(server, options))
  const uncounted = [...counted.filter(({ fault }) => fault !== undefined), ...notFound(wanted, counted)]
  if (uncounted.length > 0) warnings.push(`database "${database.name}": ${uncountedText(uncounted)}`)
  return counted
}

/** The first one with its reason: there can be thousands, and the fingerprints have them all. */
function uncountedText([first, ...others]: readonly TableFingerprint[]): string {
  const more = others.length > 0 ? `, and ${others.length} more` : ''
  return `there is no fingerprint of ${fingerprintText(first!)} (${first!.fault})${more}`
}

/** @param name without what compression adds */
function store(
  { request: { codec }, plan, store }: LogicalRun,
  name: string,
  archive: AsyncIterable<Buffer>,
  signal: AbortSignal,
): Promise<StoredIn> {
  const isOurs = plan.compressedBy === 'pgrecall'
  const suffix = isOurs ? codecSuffix(codec) : ''
  return store.put(name + suffix, isOurs ? compressed(codec, archive) : archive, { signal })
}

function dumpOptions({ run, database, snapshot, signal }: DatabaseDump): DumpOptions {
  const { request, plan, source, warnings } = run
  const { lockWaitMs, selection } = request
  return {
    connection: { ...inDatabase(source.connection, database.name), database: database.name },
    // That of the database, by which the names in its list are read.
    encoding: database.encoding,
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
  {
    isTemplate: _template,
    allowsConnections: _open,
    mayConnect: _may,
    isInvalid: _invalid,
    locale,
    ...facts
  }: DumpableDatabase,
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
