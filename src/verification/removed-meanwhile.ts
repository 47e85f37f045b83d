import { loadCatalog } from '../catalog/catalog.ts'
import { backupRecordKey } from '../catalog/layout.ts'
import type { Repository } from '../catalog/repository.ts'
import { statWalFile } from '../catalog/wal-object.ts'
import type { FoundDamage } from './damage.ts'
import type { FoundFaults } from './found-faults.ts'
import { listWal } from './listed-wal.ts'
import { type MissingWal, missingWal, storedSpans } from './missing-wal.ts'
import { segmentAt } from './places.ts'
import type { Stock } from './stock.ts'

/**
 * A retention that runs between the look at what there is and the reading removes what is then missed: objects of a backup whose
 * record is gone by now, and WAL that, as the repository is by now, need not be there. That is no damage.
 * @throws PgrecallError `repository`
 */
export async function dropRemoved(
  repository: Repository,
  stock: Stock,
  found: FoundFaults,
  signal: AbortSignal,
): Promise<void> {
  const { cluster, walSegmentBytes } = stock.catalog
  const absent: FoundDamage[] = []
  for (const damage of found.damages()) {
    const { key, place } = damage
    if (place.kind === 'object') {
      const isRemoved = !(await repository.storage.stat(backupRecordKey(cluster, place.backup)))
      if (isRemoved && found.recordOf(place.backup)) found.drop(key)
    } else if (place.kind === 'missing') absent.push(damage)
    else if (place.kind === 'wal' && place.file.kind === 'segment')
      if (!(await statWalFile(repository, cluster, place.file.name))) absent.push(damage)
  }
  if (absent.length === 0) return
  const mustBeThere = await missingNow(repository, stock, signal)
  for (const { key, place } of absent) {
    const span = place.kind === 'missing' ? place : spanAt(segmentAt(cluster, key, walSegmentBytes)!)
    if (!mustBeThere(span)) found.drop(key)
  }
}

const spanAt = ({ timeline, number }: { timeline: number; number: bigint }): MissingWal => ({
  ...{ timeline, first: number, last: number },
})

/** @returns whether some of a span that is not there should be, by what there is now */
async function missingNow(
  repository: Repository,
  { catalog: { cluster }, chosen, isAll, known }: Stock,
  signal: AbortSignal,
): Promise<(span: MissingWal) => boolean> {
  const catalog = await loadCatalog(repository.storage, cluster, { fresh: true })
  const { timelines } = await listWal(repository, catalog, signal)
  const segmentBytes = catalog.walSegmentBytes
  const missing = missingWal({
    ...{ timelines, segmentBytes, isAll },
    backups: catalog.backups.filter(({ id }) => chosen.some((backup) => backup.id === id)),
    known: timelines.flatMap(({ timeline }) => known.spansOf(timeline)),
  })
  return (span) => {
    // Retention takes no WAL from the end.
    const end = storedSpans(timelines, span.timeline, segmentBytes).at(-1)?.last
    if (end !== undefined && span.last > end) return true
    return missing.some(
      ({ timeline, first, last }) => timeline === span.timeline && first <= span.last && span.first <= last,
    )
  }
}
