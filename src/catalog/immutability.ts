import { historyName, segmentName, timelineName } from '../postgres/wal-file.ts'
import { sideBySide } from '../side-by-side.ts'
import { type BackupDraft, readBackupRecord } from './backup-record.ts'
import { backupPrefix, backupRecordKey, walKey, walPrefix } from './layout.ts'
import type { Repository } from './repository.ts'
import { statWalFile, walObjectOf } from './wal-object.ts'
import { segmentNumberOf } from './wal-ranges.ts'

const DAY_MS = 24 * 60 * 60 * 1000
/** How many objects are being locked at once. */
const LANES = 16

/**
 * Locks all that a backup needs, for as long as its record is going to be locked; does nothing in a repository that is not
 * configured to lock. It comes right before the record, so that what a killed run leaves can be removed, and a record is never
 * locked for less than what it tells of: who may remove it finds nothing else locked.
 * @throws PgrecallError `repository` when the store does not lock
 */
export async function lockNeeded(
  repository: Repository,
  draft: BackupDraft,
  now: Date,
  signal: AbortSignal,
): Promise<void> {
  await lockObjects(repository, neededBy(repository, draft), now, signal)
}

/** The same of objects that are given. @param keys is not read where nothing is locked */
export async function lockObjects(
  { storage }: Repository,
  keys: Iterable<string> | AsyncIterable<string>,
  now: Date,
  signal: AbortSignal,
): Promise<void> {
  const days = storage.address.type === 's3' ? storage.address.objectLock?.days : undefined
  if (days === undefined) return
  const until = new Date(now.getTime() + days * DAY_MS)
  await sideBySide(keys, LANES, async (key) => {
    signal.throwIfAborted()
    await storage.lockUntil(key, until)
  })
}

/**
 * The keys of all that must be there for a recovery to the end of a backup, but for its record. What it builds upon stays one
 * that can be recovered itself.
 */
async function* neededBy(repository: Repository, draft: BackupDraft): AsyncGenerator<string> {
  const { cluster, id, parent, objects, timeline } = draft
  const below = parent && (await readBackupRecord(repository.storage, cluster, parent.id))
  if (below) {
    yield backupRecordKey(cluster, below.id)
    yield* neededBy(repository, below)
  }
  for (const { name } of objects) yield backupPrefix(cluster, id) + name
  for await (const folder of repository.storage.folders(walPrefix(cluster))) {
    const its = Number.parseInt(folder, 16)
    // Where a promotion came right after the backup, its last segment is stored as the next timeline's only.
    if (its >= timeline) yield* walNeededBy(repository, draft, its)
  }
}

/** The segments of a timeline from the start to the stop of a backup, and the history that leads to them. */
async function* walNeededBy(
  repository: Repository,
  { cluster, start, stop, walSegmentBytes, timeline: own, standalone }: BackupDraft,
  timeline: number,
): AsyncGenerator<string> {
  const nameOf = ({ walFile }: typeof start) =>
    segmentName(timeline, segmentNumberOf(walFile, walSegmentBytes), walSegmentBytes)
  const [first, last] = [nameOf(start), nameOf(stop)]
  let isNeeded = timeline === own
  // Keys are in the order of the names, and a name without its ending comes before all that begins with it.
  const startAfter = walKey(cluster, first).replace(/\.zst$/, '')
  const prefix = `${walPrefix(cluster)}${timelineName(timeline)}/`
  for await (const { key } of standalone ? [] : repository.storage.list(prefix, { startAfter })) {
    const file = walObjectOf(cluster, key)
    if (file?.kind !== 'segment') continue
    if (file.name > last) break
    isNeeded = true
    yield key
  }
  const history = isNeeded && (await statWalFile(repository, cluster, historyName(timeline)))
  if (history) yield history.key
}
