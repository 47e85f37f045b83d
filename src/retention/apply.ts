import {
  type Catalog,
  debrisOf,
  type LoadOptions,
  loadCatalog,
  saveCatalog,
  storedBackups,
  updateCatalog,
} from '../catalog/catalog.ts'
import { requireRepository } from '../catalog/identity.ts'
import { backupRecordKey, catalogKey, walPrefix } from '../catalog/layout.ts'
import { withoutRemoved } from '../catalog/parts-of-runs.ts'
import { livingPins, sweepPins } from '../catalog/pin.ts'
import { isRefusal, type RemovedBackup, removeBackup, removeUnfinished } from '../catalog/remove-backup.ts'
import type { Repository } from '../catalog/repository.ts'
import { walObjectOf } from '../catalog/wal-object.ts'
import type { Events } from '../events.ts'
import { numberOf } from '../postgres/wal-file.ts'
import type { Storage } from '../storage/storage.ts'
import { lockEvenIfFull } from './lock-if-full.ts'
import { isNeeded, type NeededWal, neededWal } from './needed-wal.ts'
import { type GoingBackup, inOrderOfRemoval, planRetention, type RetentionPlan } from './plan.ts'
import { Refusals } from './refusals.ts'
import type { RetentionRules } from './rules.ts'

export interface RetentionContext {
  repository: Repository
  events: Events
  signal: AbortSignal
  now: () => Date
}

export interface RetentionResult {
  plan: RetentionPlan
  removedBackups: number
  /** Objects below `wal/`: segments, and what lies beside them. */
  removedWal: number
  removedSegments: number
  freedBytes: number
  /** WAL that no backup needs, and that stays as the store keeps its oldest file. */
  lockedWal: LockedWal[]
  /** What else the store did not let go, as a legal hold does, in a sentence each. */
  refusals: string[]
}

/** The file that is the oldest one left of its timeline. */
interface LockedWal {
  timeline: number
  name: string
  /** ISO 8601; null where the store does not tell. */
  lockedUntil: string | null
}

/** What a run would do now. Takes no lock and changes nothing. */
export async function previewRetention(
  cluster: string,
  rules: RetentionRules,
  context: RetentionContext,
): Promise<RetentionPlan> {
  return (await look(cluster, rules, context, { believing: true })).plan
}

/** Where something is removed, each record is read, all WAL is listed, and no catalog is believed. */
async function look(
  cluster: string,
  rules: RetentionRules,
  { repository, now }: RetentionContext,
  options: LoadOptions,
) {
  const catalog = await loadCatalog(repository.storage, cluster, options)
  const situation = { now: now(), readers: await livingPins(repository.storage, cluster, now()) }
  const wanted = planRetention(catalog, rules, situation)
  const locks = await locksOf(wanted, repository.storage, now())
  const plan = locks.size === 0 ? wanted : planRetention(catalog, rules, { ...situation, locks })
  return { catalog, plan }
}

/** Until when the store keeps the backups that would go. */
async function locksOf(
  { cluster, backups, logical }: RetentionPlan,
  storage: Storage,
  now: Date,
): Promise<Map<string, Date>> {
  const locks = new Map<string, Date>()
  for (const { id } of [...backups, ...logical].filter(({ stays }) => !stays)) {
    const until = (await storage.stat(backupRecordKey(cluster, id)))?.lockedUntil
    if (until && until > now) locks.set(id, until)
  }
  return locks
}

/**
 * Removes what no rule wants. The order survives a crash: what builds upon others before them, of each backup its record and
 * then its objects, and last WAL from the oldest on; so what is listed is always whole, and the archive never has a hole.
 * Debris of killed runs goes too. What the store keeps locked stays until a later run.
 *
 * @throws PgrecallError `busy` while a backup runs, `repository` when something cannot be removed
 */
export async function applyRetention(
  cluster: string,
  rules: RetentionRules,
  context: RetentionContext,
): Promise<RetentionResult> {
  const { repository, events, now } = context
  const { storage } = repository
  // A lock would make a folder where a disk is not mounted.
  if (await holdsNothing(storage, cluster)) await requireRepository(storage)
  await using lock = await lockEvenIfFull(cluster, storage, context)
  const signal = AbortSignal.any([context.signal, lock.lost])
  await storage.sweep()
  await sweepPins(storage, cluster, now())
  const { catalog, plan } = await look(cluster, rules, context, { fresh: true })
  for (const text of plan.warnings) events.emit('warning', { text })
  const going = inOrderOfRemoval(catalog, plan)
  // Who only looks believes the catalog as long as a folder is there, so what goes is taken out of it first.
  const kept = without(catalog, going)
  if (going.length > 0) await foretell(kept, storage, now())
  const refusals = new Refusals(storage, events, now)
  const { removedBackups, removedBytes } = await removeBackups(
    cluster,
    going,
    { ...context, signal },
    refusals,
  )
  let freedBytes = removedBytes
  for (const id of await debrisOf(storage, cluster, [...kept.backups, ...kept.logical, ...catalog.damaged])) {
    signal.throwIfAborted()
    // Whoever broke our lock may have begun a backup since.
    await lock.confirm()
    if (lock.mayHaveRival) break
    const key = backupRecordKey(cluster, id)
    freedBytes += (await removeUnlessKept(key, () => removeUnfinished(storage, cluster, id), refusals)) ?? 0
  }
  const { removed, locked } = await pruneWal(catalog, rules, { ...context, signal }, refusals)
  await keepCatalog(kept, removed, context)
  return {
    plan,
    removedBackups,
    removedWal: removed.length,
    removedSegments: segmentsOf(removed).length,
    freedBytes: removed.reduce((sum, { bytes }) => sum + bytes, freedBytes),
    lockedWal: locked,
    refusals: refusals.sentences,
  }
}

async function holdsNothing(storage: Storage, cluster: string): Promise<boolean> {
  for await (const _ of storage.list(`${cluster}/`)) return false
  return true
}

/** On a full disk there may be no room for it: then nobody has one to believe. */
async function foretell(kept: Catalog, storage: Storage, now: Date): Promise<void> {
  await saveCatalog(storage, kept, now).catch(() => storage.remove(catalogKey(kept.cluster)))
}

function without(catalog: Catalog, going: readonly { id: string }[]): Catalog {
  const ids = new Set(going.map(({ id }) => id))
  const isKept = ({ id }: { id: string }) => !ids.has(id)
  return { ...catalog, backups: catalog.backups.filter(isKept), logical: catalog.logical.filter(isKept) }
}

/** What stays after all, since somebody reads it by now or the store keeps it, keeps what it builds upon. */
async function removeBackups(
  cluster: string,
  going: readonly GoingBackup[],
  { repository: { storage }, events, now, signal }: RetentionContext,
  refusals: Refusals,
): Promise<{ removedBackups: number; removedBytes: number }> {
  const needed = new Set<string>()
  let removedBackups = 0
  let removedBytes = 0
  for (const { id, parent } of going) {
    signal.throwIfAborted()
    // A restore may have begun since the plan was made; it has pinned what it reads.
    const isPinned = (await livingPins(storage, cluster, now())).some((pin) => pin.backup === id)
    const remove = () => {
      events.emit('step', { text: `Removing backup ${id}` })
      return removeBackup(storage, cluster, id)
    }
    const bytes =
      isPinned || needed.has(id)
        ? undefined
        : await removeUnlessKept(backupRecordKey(cluster, id), remove, refusals)
    if (bytes === undefined) {
      if (parent) needed.add(parent.id)
    } else {
      removedBytes += bytes
      removedBackups++
    }
  }
  return { removedBackups, removedBytes }
}

/** @param key of its record @returns how many bytes are gone; undefined where the backup is still there */
async function removeUnlessKept(
  key: string,
  remove: () => Promise<RemovedBackup>,
  refusals: Refusals,
): Promise<number | undefined> {
  try {
    const { bytes, refusal } = await remove()
    if (refusal) await refusals.note(refusal.key, refusal.error)
    return bytes
  } catch (error) {
    if (!isRefusal(error)) throw error
    await refusals.note(key, error)
    return undefined
  }
}

interface StoredWal {
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
async function pruneWal(
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
  return { removed, locked }
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

/** All WAL was listed for the plan, and what is gone since is known. */
async function keepCatalog(
  catalog: Catalog,
  removed: readonly StoredWal[],
  { repository: { storage }, now }: RetentionContext,
): Promise<void> {
  const segments = segmentsOf(removed)
  const wal = catalog.wal.map((entry) => withoutRemoved(entry, segments, catalog.walSegmentBytes))
  await saveCatalog(storage, { ...catalog, wal }, now())
  await updateCatalog(storage, catalog.cluster, now())
}

/** Each counts once, also where it was stored in both forms. */
function segmentsOf(removed: readonly StoredWal[]): StoredWal[] {
  const segments = removed.filter(({ kind }) => kind === 'segment')
  return [...new Map(segments.map((segment) => [segment.name, segment])).values()]
}
