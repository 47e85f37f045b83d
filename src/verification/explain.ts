import type { Repository } from '../catalog/repository.ts'
import { statWalFile } from '../catalog/wal-object.ts'
import { segmentName } from '../postgres/wal-file.ts'
import { type Consequence, consequenceOf } from './consequence.ts'
import type { AnyRecord, Damage, FoundDamage } from './damage.ts'
import type { Whole } from './lost-windows.ts'
import { withMissing } from './missing-wal.ts'
import type { Stock } from './stock.ts'
import { readAnyRecord, type Twins } from './twin.ts'

/** Of so many it is worked out which moments are lost. */
const MOST_EXPLAINED = 500

const NOT_WORKED_OUT: Consequence = {
  text: 'too much is damaged to work out what this one costs',
  backups: [],
  windows: [],
}

/**
 * Says of each damaged object what can no longer be done because of it, and which copy can heal it.
 * @param stock undefined where not even whose the cluster is can be read
 * @throws PgrecallError `repository`
 */
export async function explainAll(
  repository: Repository,
  stock: Stock | undefined,
  found: readonly FoundDamage[],
  twins: Twins,
): Promise<Damage[]> {
  const whole = wholeOf(stock)
  const records = new Map<string, Promise<AnyRecord | undefined>>()
  const damages: Damage[] = []
  for (const [index, damage] of found.entries()) {
    const { key, reason, place, object, isContent } = damage
    const storedAt = stock && index < MOST_EXPLAINED ? await storedAtOf(repository, stock, damage) : undefined
    const consequence =
      index < MOST_EXPLAINED ? consequenceOf(whole, place, { object, storedAt }) : NOT_WORKED_OUT
    const own =
      stock && 'backup' in place ? await recordOf(place.backup, repository, stock, records) : undefined
    const mend = isContent
      ? ({ outcome: 'lost', text: 'these are the bytes that were stored, so no copy is better' } as const)
      : await twins.find(damage, own, whole.walSegmentBytes)
    damages.push({ key, reason, consequence, mend })
  }
  return damages
}

/** As the cluster would be with what is missing. */
function wholeOf(stock: Stock | undefined): Whole {
  if (!stock) return { backups: [], logical: [], wal: [], walSegmentBytes: 1 }
  const { catalog, missing } = stock
  return { ...catalog, wal: withMissing(catalog.wal, missing, catalog.walSegmentBytes) }
}

function recordOf(
  id: string,
  repository: Repository,
  { catalog: { cluster } }: Stock,
  records: Map<string, Promise<AnyRecord | undefined>>,
): Promise<AnyRecord | undefined> {
  let reading = records.get(id)
  if (!reading) {
    reading = readAnyRecord(repository, cluster, id).catch(() => undefined)
    records.set(id, reading)
  }
  return reading
}

/** When WAL was stored that is damaged, or else what is right before it; ISO 8601. */
async function storedAtOf(
  repository: Repository,
  { catalog: { cluster, walSegmentBytes } }: Stock,
  { place }: FoundDamage,
): Promise<string | undefined> {
  if (place.kind === 'wal' && place.file.kind === 'segment')
    return (await statWalFile(repository, cluster, place.file.name))?.modified.toISOString()
  if (place.kind !== 'missing' || place.first === 0n) return undefined
  const before = segmentName(place.timeline, place.first - 1n, walSegmentBytes)
  return (await statWalFile(repository, cluster, before))?.modified.toISOString()
}
