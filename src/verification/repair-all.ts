import { acquireLock } from '../catalog/lock.ts'
import { pinIfAllowed } from '../catalog/pin.ts'
import type { Repository } from '../catalog/repository.ts'
import type { Events } from '../events.ts'
import type { Damage, FoundDamage } from './damage.ts'
import { repair } from './repair.ts'
import type { Twins } from './twin.ts'

export interface RepairAllContext {
  cluster: string
  segmentBytes: number
  twins: Twins
  others: readonly Repository[]
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
 * Heals what is damaged from the other repositories, one object after the other, under the lock of the cluster.
 * @returns the damage, with what came of each
 * @throws PgrecallError `busy` when the lock is held, `repository`
 */
export async function repairAll(
  repository: Repository,
  found: readonly FoundDamage[],
  damaged: readonly Damage[],
  { cluster, segmentBytes, twins, others, events, signal: stopped, now }: RepairAllContext,
): Promise<RepairReport> {
  const onWarning = (text: string) => events.emit('warning', { text })
  await using lock = await acquireLock(repository.storage, cluster, {
    ...{ purpose: 'verify --repair', now, signal: stopped, onWarning },
  })
  const signal = AbortSignal.any([stopped, lock.lost])
  const result = new Map(damaged.map((damage) => [damage.key, damage]))
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
    events.emit('step', { text: `Repairing ${damage.key}` })
    await using pins = new AsyncDisposableStack()
    if ('backup' in damage.place)
      for (const { storage } of others)
        pins.use(await pinIfAllowed(storage, cluster, damage.place.backup, 'verify --repair', now, () => {}))
    const context = { cluster, segmentBytes, twins, others, lock, signal, onBytes }
    const mend = await repair(repository, damage, known.mend, context)
    result.set(damage.key, { ...known, mend })
    items++
  }
  events.emit('progressEnd', { task })
  return { damaged: [...result.values()] }
}
