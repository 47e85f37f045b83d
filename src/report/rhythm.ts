import type { BackupSummary } from '../catalog/backup-record.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { backupId } from '../catalog/layout.ts'
import type { LogicalSummary } from '../catalog/logical-record.ts'
import { segmentNumberOf } from '../catalog/wal-ranges.ts'
import { formatLsn } from '../postgres/lsn.ts'
import { segmentName, segmentStart } from '../postgres/wal-file.ts'
import { KINDS, type Kind } from './history.ts'

/** How often backups of a kind were taken lately. */
export interface Beat {
  kind: Kind
  everyMs: number
  newestAt: number
}

/** So many of the newest backups of a kind tell how often it is taken. */
const LOOKED_AT = 9
const LEAST = 3
const LEAST_EVERY_MS = 60 * 60_000

/**
 * How often each kind is taken: the middle of the newest pauses. A kind that is overdue, or was taken less than three times, is
 * not going to come as far as is known. Pure.
 */
export function rhythmOf({ backups, logical }: Pick<Catalog, 'backups' | 'logical'>, now: number): Beat[] {
  return KINDS.flatMap((kind) => {
    const times = (
      kind === 'logical'
        ? logical.slice(-LOOKED_AT).map(({ finishedAt }) => finishedAt)
        : backups
            .filter(({ type }) => type === kind)
            .slice(-LOOKED_AT)
            .map(({ stop }) => stop.time)
    ).map((time) => Date.parse(time))
    const pauses = times.slice(1).map((time, index) => time - times[index]!)
    const everyMs = pauses.toSorted((a, b) => a - b)[Math.floor(pauses.length / 2)]
    const newestAt = times.at(-1)
    if (times.length < LEAST || !(everyMs! >= LEAST_EVERY_MS) || now - newestAt! > 2 * everyMs!) return []
    return [{ kind, everyMs: everyMs!, newestAt: newestAt! }]
  })
}

/**
 * What would be stored at a later moment if backups went on as they did, with their WAL. Pure.
 * @param left the ids of those that are stored now and are still there then
 * @param then milliseconds since 1970
 */
export function carriedOn(
  catalog: Catalog,
  left: ReadonlySet<string>,
  rhythm: readonly Beat[],
  now: number,
  then: number,
): Catalog {
  const coming = rhythm
    .flatMap(({ kind, everyMs, newestAt }) => {
      const count = Math.max(0, Math.floor((then - newestAt) / everyMs))
      return Array.from({ length: count }, (_, index) => ({ kind, at: newestAt + (index + 1) * everyMs }))
    })
    .map(({ kind, at }) => ({ kind, at: Math.max(at, now) }))
    .toSorted((a, b) => a.at - b.at)
  const backups = catalog.backups.filter(({ id }) => left.has(id))
  const logical = catalog.logical.filter(({ id }) => left.has(id))
  const line = catalog.wal.at(-1)
  const run = line?.ranges.at(-1)
  let segment = run ? segmentNumberOf(run.last, catalog.walSegmentBytes) : undefined
  for (const { kind, at } of coming) {
    if (kind === 'logical') logical.push(nextLogical(catalog.logical.at(-1)!, at))
    else if (segment !== undefined && line) {
      segment += 2n
      const like = catalog.backups.findLast(({ type }) => type === kind)!
      const next = nextBackup(like, backups, at, { timeline: line.timeline, segment })
      if (next) backups.push(next)
    }
  }
  if (segment === undefined) return { ...catalog, backups, logical }
  const last = segmentName(line!.timeline, segment + 1n, catalog.walSegmentBytes)
  const grown = {
    ...run!,
    last,
    segments: run!.segments + Number(segment + 1n - segmentNumberOf(run!.last, catalog.walSegmentBytes)),
    newestStoredAt: new Date(then).toISOString(),
  }
  const { receiving: _receiving, ...settled } = line!
  const wal = [...catalog.wal.slice(0, -1), { ...settled, ranges: [...line!.ranges.slice(0, -1), grown] }]
  return { ...catalog, backups, logical, wal }
}

/** Like the newest one of its kind, upon the newest one that it may build upon. */
function nextBackup(
  like: BackupSummary,
  backups: readonly BackupSummary[],
  at: number,
  { timeline, segment }: { timeline: number; segment: bigint },
): BackupSummary | undefined {
  const { type: kind } = like
  const lower =
    kind === 'full' ? undefined : backups.findLast(({ type }) => kind === 'incr' || type === 'full')
  if (kind !== 'full' && !lower) return undefined
  const { parent: _parent, ...rest } = like
  const time = new Date(at).toISOString()
  const walFile = segmentName(timeline, segment, like.walSegmentBytes)
  const begin = segmentStart(segment, like.walSegmentBytes)
  return {
    ...rest,
    ...(lower && { parent: { id: lower.id, startLsn: lower.start.lsn, timeline: lower.timeline } }),
    id: backupId(new Date(at), kind),
    systemIdentifier: lower?.systemIdentifier ?? like.systemIdentifier,
    timeline,
    start: { lsn: formatLsn(begin + 0x28n), walFile, time },
    stop: { lsn: formatLsn(begin + 0x1000n), walFile, time },
    startedAt: time,
    finishedAt: time,
  }
}

function nextLogical(like: LogicalSummary, at: number): LogicalSummary {
  const time = new Date(at).toISOString()
  return { ...like, id: backupId(new Date(at), 'logical'), startedAt: time, finishedAt: time }
}
