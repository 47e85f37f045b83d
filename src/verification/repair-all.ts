import { acquireLock } from '../catalog/lock.ts'
import { pinIfAllowed } from '../catalog/pin.ts'
import type { Repository } from '../catalog/repository.ts'
import type { TimelineWal } from '../catalog/wal-ranges.ts'
import { PgrecallError } from '../errors.ts'
import type { Events } from '../events.ts'
import type { Damage, FoundDamage } from './damage.ts'
import { repair } from './repair.ts'
import type { Twins } from './twin.ts'

export interface RepairAllContext {
  cluster: string
  segmentBytes: number
  /** What the repository has of WAL. */
  timelines: readonly TimelineWal[]
  twins: Twins
  events: Events
  signal: AbortSignal
  now: () => Date
}

export interface RepairReport {
  damaged: Damage[]
}

/** What describes others comes after them: an index tells of its shard, and a record of all. */
const ORDER: readonly FoundDamage['place']['kind'][] = [
  'marker',
  'identity',
  'record',
  'object',
  'backup',
  'missing',
  'wal',
]

/**
 * Heals what is damaged from the other repositories, one object after the other, under the lock of the cluster. Where another
 * holds that, or takes it over, what is not healed yet stays what was found, and a warning says so.
 * @returns the damage, with what came of each
 * @throws PgrecallError `repository`
 */
export async function repairAll(
  repository: Repository,
  found: readonly FoundDamage[],
  damaged: readonly Damage[],
  context: RepairAllContext,
): Promise<RepairReport> {
  const result = new Map(damaged.map((damage) => [damage.key, damage]))
  try {
    await repairEach(repository, found, result, context)
  } catch (error) {
    context.signal.throwIfAborted()
    if (!(error instanceof PgrecallError) || error.kind !== 'busy') throw error
    context.events.emit('warning', {
      text: `nothing more is healed now; run this again later: ${error.message}`,
    })
  }
  return { damaged: [...result.values()] }
}

/** @param result takes what came of each */
async function repairEach(
  repository: Repository,
  found: readonly FoundDamage[],
  result: Map<string, Damage>,
  { cluster, segmentBytes, timelines, twins, events, signal: stopped, now }: RepairAllContext,
): Promise<void> {
  const onWarning = (text: string) => events.emit('warning', { text })
  await using lock = await acquireLock(repository.storage, cluster, {
    ...{ purpose: 'verify --repair', now, signal: stopped, onWarning },
  })
  const signal = AbortSignal.any([stopped, lock.lost])
  const damagedKeys = new Set(result.keys())
  const task = 'Repairing'
  let [bytes, items] = [0, 0]
  const onBytes = (count: number) => {
    bytes += count
    events.emit('progress', { task, bytes, total: undefined, items })
  }
  const rank = ({ place, object }: FoundDamage) =>
    ORDER.indexOf(place.kind) * 2 + (object?.kind === 'index' ? 1 : 0)
  for (const damage of found.toSorted((a, b) => rank(a) - rank(b))) {
    signal.throwIfAborted()
    const known = result.get(damage.key)!
    if (damage.isContent || damage.place.kind === 'backup') continue
    events.emit('step', { text: `Looking for a sound copy of ${damage.key}` })
    await using pins = new AsyncDisposableStack()
    if ('backup' in damage.place)
      for (const { storage } of twins.others)
        pins.use(await pinIfAllowed(storage, cluster, damage.place.backup, 'verify --repair', now, () => {}))
    const context = { cluster, segmentBytes, timelines, twins, damagedKeys, lock, signal, onBytes }
    const mend = await repair(repository, damage, known.mend, context)
    result.set(damage.key, { ...known, mend })
    items++
  }
  events.emit('progressEnd', { task })
}
