import type { Catalog } from '../catalog/catalog.ts'
import { walPrefix } from '../catalog/layout.ts'
import type { Repository } from '../catalog/repository.ts'
import { readStoredHistory } from '../catalog/stored-history.ts'
import { type WalObject, walObjectOf } from '../catalog/wal-object.ts'
import { TimelineBuilder, type TimelineWal } from '../catalog/wal-ranges.ts'

/** What lies below `wal/` and is no whole segment. */
export interface OtherWal {
  file: Exclude<WalObject, { kind: 'segment' }>
  key: string
  bytes: number
}

/** All that is archived, by one listing: the runs of each timeline, and what else is there. */
export async function listWal(
  { storage }: Repository,
  { cluster, wal, walSegmentBytes }: Catalog,
  signal: AbortSignal,
): Promise<{ timelines: TimelineWal[]; others: OtherWal[] }> {
  const builders = new Map<number, TimelineBuilder>()
  const others: OtherWal[] = []
  let last: string | undefined
  for await (const { key, bytes, modified } of storage.list(walPrefix(cluster), { signal })) {
    const file = walObjectOf(cluster, key)
    if (!file) continue
    if (file.kind !== 'segment') others.push({ file, key, bytes })
    let builder = builders.get(file.timeline)
    if (!builder) {
      builder = new TimelineBuilder(file.timeline, walSegmentBytes)
      builders.set(file.timeline, builder)
    }
    const storedAt = modified.toISOString()
    if (file.kind === 'receiving') builder.addReceiving(file.name, bytes, storedAt)
    // Stored in both forms, it is one segment all the same.
    if (file.kind !== 'segment' || file.name === last) continue
    last = file.name
    builder.addRun({
      ...{ first: file.name, last: file.name, segments: 1, storedBytes: bytes },
      ...{ firstStoredAt: storedAt, newestStoredAt: storedAt },
    })
  }
  const timelines = [...builders].map(async ([timeline, builder]) => {
    const known = wal.find((entry) => entry.timeline === timeline)
    const { dropped, thinnedBefore } = known ?? {}
    const history = known?.history
      ? { ancestors: known.history }
      : timeline > 1
        ? await readStoredHistory(storage, cluster, timeline)
        : undefined
    return { ...builder.build(history), ...(dropped && { dropped }), ...(thinnedBefore && { thinnedBefore }) }
  })
  const found = await Promise.all(timelines)
  return { timelines: found.toSorted((a, b) => a.timeline - b.timeline), others }
}
