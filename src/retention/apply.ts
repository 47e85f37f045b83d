import {
  type Catalog,
  type LoadOptions,
  loadCatalog,
  needlessDebris,
  saveCatalog,
  updateCatalog,
} from '../catalog/catalog.ts'
import { requireRepository } from '../catalog/identity.ts'
import { isOver, type KeptPin, readKeptPins, sweepKeptPins } from '../catalog/kept-pin.ts'
import { readKnownDamage } from '../catalog/known-damage.ts'
import { backupRecordKey, catalogKey } from '../catalog/layout.ts'
import { withoutRemoved } from '../catalog/parts-of-runs.ts'
import { livingPins, sweepPins } from '../catalog/pin.ts'
import { isRefusal, type RemovedBackup, removeBackup, removeUnfinished } from '../catalog/remove-backup.ts'
import { sideBySide } from '../side-by-side.ts'
import type { ObjectFacts, Storage } from '../storage/storage.ts'
import { differingClocks } from './clocks.ts'
import { lockEvenIfFull } from './lock-if-full.ts'
import { type GoingBackup, inOrderOfRemoval, planRetention, type RetentionPlan } from './plan.ts'
import { type LockedWal, pruneWal, type StoredWal, segmentsOf } from './prune-wal.ts'
import { Refusals } from './refusals.ts'
import type { RetentionContext } from './retention-context.ts'
import { type RetentionRules, withoutTime } from './rules.ts'

/** So many small requests are under way at once: a store that is far away answers each of them late. */
const AT_ONCE = 24

export type { RetentionContext } from './retention-context.ts'

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
  const situation = {
    now: now(),
    readers: await livingPins(repository.storage, cluster, now()),
    pinned: await readKeptPins(repository.storage, cluster),
    damage: await readKnownDamage(repository.storage, catalog),
  }
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
  // A folder has no locks. A bucket may have them by a default of its own, which no configuration tells.
  if (storage.address.type !== 's3') return locks
  const going = [...backups, ...logical].filter(({ stays }) => !stays)
  await sideBySide(going, AT_ONCE, async ({ id }) => {
    const until = (await storage.stat(backupRecordKey(cluster, id)))?.lockedUntil
    if (until && until > now) locks.set(id, until)
  })
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
  wanted: RetentionRules,
  given: RetentionContext,
): Promise<RetentionResult> {
  const { storage } = given.repository
  // A lock would make a folder where a disk is not mounted.
  if (await holdsNothing(storage, cluster)) await requireRepository(storage)
  await using lock = await lockEvenIfFull(cluster, storage, given)
  const { rules, ...context } = await underClocks(cluster, wanted, given)
  const { events, now } = context
  const signal = AbortSignal.any([context.signal, lock.lost])
  await storage.sweep()
  if (!context.areDaysApart) {
    await sweepPins(storage, cluster, now())
    await sweepKeptPins(storage, cluster, now())
  }
  const { catalog, plan } = await look(cluster, rules, context, { fresh: true })
  for (const text of plan.warnings) events.emit('warning', { text })
  const going = inOrderOfRemoval(catalog, plan)
  // Who only looks believes the catalog as long as a folder is there, so what goes is taken out of it first.
  const kept = without(catalog, going)
  const refusals = new Refusals(storage, events, now)
  const { removedBackups, removedBytes } = await removeBackups(
    cluster,
    going,
    { ...context, signal },
    refusals,
    foretelling(kept, storage, now),
  )
  let freedBytes = removedBytes
  for (const id of await needlessDebris(storage, kept)) {
    signal.throwIfAborted()
    // Whoever broke our lock may have begun a backup since.
    await lock.confirm()
    if (lock.mayHaveRival) break
    const key = backupRecordKey(cluster, id)
    freedBytes += (await removeUnlessKept(key, () => removeUnfinished(storage, cluster, id), refusals)) ?? 0
  }
  const { removed, locked, keptAt } = await pruneWal(catalog, rules, { ...context, signal }, refusals)
  await keepCatalog(kept, removed, keptAt, context)
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

/** What is told of clocks that differ is told before anything goes. Of two that are days apart, the earlier one ends nothing. */
async function underClocks(cluster: string, rules: RetentionRules, context: RetentionContext) {
  const { repository, events, now } = context
  const differing = await differingClocks(repository.storage, cluster, now())
  if (differing) events.emit('warning', { text: differing.warning })
  if (!differing?.areDaysApart) return { ...context, rules, areDaysApart: false }
  const { stored } = differing
  const earlier = () => (stored < now() ? stored : now())
  return { ...context, rules: withoutTime(rules), now: earlier, areDaysApart: true }
}

async function holdsNothing(storage: Storage, cluster: string): Promise<boolean> {
  for await (const _ of storage.list(`${cluster}/`)) return false
  return true
}

/**
 * Takes out of the catalog what goes, also where somebody who had looked before has put it back since: were this run killed then,
 * it would seem lost. On a full disk there may be no room for it: then nobody has one to believe.
 */
function foretelling(kept: Catalog, storage: Storage, now: () => Date): () => Promise<void> {
  const key = catalogKey(kept.cluster)
  let written: ObjectFacts | undefined
  return async () => {
    const found = await storage.stat(key)
    if (found?.bytes === written?.bytes && found?.modified.getTime() === written?.modified.getTime()) return
    await saveCatalog(storage, kept, now()).catch(() => storage.remove(key))
    written = await storage.stat(key)
  }
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
  foretell: () => Promise<void>,
): Promise<{ removedBackups: number; removedBytes: number }> {
  const needed = new Set<string>()
  let removedBackups = 0
  let removedBytes = 0
  for (const { id, parent } of going) {
    signal.throwIfAborted()
    await foretell()
    const isPinned = await isPinnedNow(storage, cluster, id, now())
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

/** Since the plan was made, a restore may have begun, which has pinned what it reads, and a person may have pinned a backup. */
async function isPinnedNow(storage: Storage, cluster: string, id: string, now: Date): Promise<boolean> {
  const isOfIt = ({ backup }: Pick<KeptPin, 'backup'>) => backup === id
  if ((await livingPins(storage, cluster, now)).some(isOfIt)) return true
  return (await readKeptPins(storage, cluster, id)).some((pin) => !isOver(pin, now))
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

/** All WAL was listed for the plan, and what is gone since is known; of a run that fell apart, when its parts were stored. */
async function keepCatalog(
  catalog: Catalog,
  removed: readonly StoredWal[],
  keptAt: ReadonlyMap<string, string>,
  { repository: { storage }, now }: RetentionContext,
): Promise<void> {
  const segments = segmentsOf(removed)
  const wal = catalog.wal.map((entry) => {
    const left = withoutRemoved(entry, segments, catalog.walSegmentBytes)
    const ranges = left.ranges.map((run) => ({
      ...run,
      newestStoredAt: keptAt.get(run.last) ?? run.newestStoredAt,
    }))
    return { ...left, ranges }
  })
  await saveCatalog(storage, { ...catalog, wal }, now())
  await updateCatalog(storage, catalog.cluster, now())
}
