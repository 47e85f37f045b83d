import { type Catalog, storedBackups } from '../catalog/catalog.ts'
import { walPrefix } from '../catalog/layout.ts'
import { livingPins } from '../catalog/pin.ts'
import { isRefusal } from '../catalog/remove-backup.ts'
import { noteThinnedWal } from '../catalog/thinned-wal.ts'
import { walObjectOf } from '../catalog/wal-object.ts'
import { numberOf, segmentName } from '../postgres/wal-file.ts'
import type { Storage } from '../storage/storage.ts'
import { isNeeded, type NeededWal, neededWal } from './needed-wal.ts'
import type { Refusals } from './refusals.ts'
import type { RetentionContext } from './retention-context.ts'
import type { RetentionRules } from './rules.ts'

/** The file that is the oldest one left of its timeline. */
export interface LockedWal {
  timeline: number
  name: string
  /** ISO 8601; null where the store does not tell. */
  lockedUntil: string | null
}

/** An object below `wal/`. */
export interface StoredWal {
  key: string
  name: string
  kind: string
  timeline: number
  bytes: number
}

/**
 * Removes WAL that no stored backup needs, and what lies beside it. What is needed is computed anew from what is stored
 * now, so that a backup that stayed for a reason the plan did not know of keeps its WAL. Of a timeline nothing goes behind a file
 * that the store keeps: the archive must not get a hole.
 */
export async function pruneWal(
  catalog: Catalog,
  rules: RetentionRules,
  { repository: { storage }, events, now, signal }: RetentionContext,
  refusals: Refusals,
): Promise<{ removed: StoredWal[]; locked: LockedWal[] }> {
  const { cluster } = catalog
  const left = { ...catalog, ...(await storedBackups(storage, cluster)) }
  const situation = { now: now(), readers: await livingPins(storage, cluster, now()) }
  const needed = neededWal(left, left.backups, rules, situation)
  const removed: StoredWal[] = []
  const locked: LockedWal[] = []
  if (!needed) return { removed, locked }
  const old: StoredWal[] = []
  for await (const folder of storage.folders(walPrefix(cluster)))
    for await (const object of olderWal(storage, catalog, folder, needed)) old.push(object)
  const thinned = thinnedBy(old, needed, catalog.walSegmentBytes)
  const note = () => noteThinnedWal(storage, cluster, thinned)
  // On a full disk there is room for it once something is gone.
  const isNoted = await note().then(
    () => true,
    () => false,
  )
  if (old.length > 0) events.emit('step', { text: `Removing WAL that no backup needs: ${old.length} files` })
  for (const object of old) {
    signal.throwIfAborted()
    const { key, name, timeline } = object
    if (locked.at(-1)?.timeline === timeline) continue
    try {
      await storage.remove(key)
      removed.push(object)
    } catch (error) {
      if (!isRefusal(error)) throw error
      const until = await refusals.note(key, error)
      locked.push({ timeline, name, lockedUntil: until?.toISOString() ?? null })
    }
  }
  if (!isNoted) await note()
  return { removed, locked }
}

/** The timelines that get holes on purpose. */
function thinnedBy(old: readonly StoredWal[], { from, own }: NeededWal, segmentBytes: number) {
  const isThinned = [...own.values()].some(([span]) => span !== undefined && span.first < from)
  const timelines = new Set(segmentsOf(old).map(({ timeline }) => timeline))
  return [...(isThinned ? timelines : [])].map((timeline) => ({
    timeline,
    before: segmentName(timeline, from, segmentBytes),
  }))
}

/** Histories stay: they are tiny, and tell how the timelines hang together. */
async function* olderWal(
  storage: Storage,
  { cluster, walSegmentBytes }: Catalog,
  folder: string,
  needed: NeededWal,
): AsyncIterable<StoredWal> {
  for await (const { key, bytes } of storage.list(`${walPrefix(cluster)}${folder}/`)) {
    const file = walObjectOf(cluster, key)
    if (!file || file.kind === 'history') continue
    const number = numberOf(file, walSegmentBytes)
    // Keys are in the order of the numbers, so what follows is needed.
    if (number >= needed.from) return
    if (isNeeded(needed, file.timeline, number)) continue
    yield { key, bytes, name: file.name, kind: file.kind, timeline: file.timeline }
  }
}

/** Each counts once, also where it was stored in both forms. */
export function segmentsOf(removed: readonly StoredWal[]): StoredWal[] {
  const segments = removed.filter(({ kind }) => kind === 'segment')
  return [...new Map(segments.map((segment) => [segment.name, segment])).values()]
}
