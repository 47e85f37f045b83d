import type { BackupSummary } from '../catalog/backup-record.ts'
import type { Catalog } from '../catalog/catalog.ts'
import type { Repository } from '../catalog/repository.ts'
import { PgrecallError } from '../errors.ts'
import type { Events } from '../events.ts'
import { type Lsn, lsn } from '../postgres/lsn.ts'
import type { TimelineHistory } from '../postgres/timeline-history.ts'
import { segmentNumber } from '../postgres/wal-file.ts'
import { readArchivedFile } from '../wal/read.ts'
import { searchWal, type WalFinding } from './find-target.ts'
import { onTheWay } from './plan.ts'
import type { Evidence, RestoreQuestion } from './question.ts'
import { describeTarget, type Target } from './target.ts'
import { reachAlong, type WalLeg } from './timeline-path.ts'

interface SearchContext {
  events: Events
  signal: AbortSignal
}

/**
 * Where a named or numbered target lies: the backup has to end before it, so it is looked for first. From each backup
 * its own WAL can be followed to the first hole; so the newest goes first, and what lies behind a hole is found too.
 */
export async function locate(
  repository: Repository,
  catalog: Catalog,
  path: TimelineHistory,
  { target }: RestoreQuestion,
  context: SearchContext,
): Promise<Lsn | undefined> {
  if (target.kind !== 'xid' && target.kind !== 'name') return undefined
  const usable = onTheWay(catalog.backups, path)
  if (usable.length === 0) return undefined
  const restorePoints = new Set<string>()
  let searched: bigint | undefined
  for (const backup of usable.toReversed()) {
    const start = lsn(backup.start.lsn)
    const { legs } = reachAlong(path, start, catalog.wal, catalog.walSegmentBytes)
    const finding = await search(repository, catalog, legsUpTo(legs, searched), target, context)
    if (finding.found !== undefined) return finding.found
    for (const name of finding.restorePoints) restorePoints.add(name)
    searched = segmentNumber(start, catalog.walSegmentBytes)
  }
  throw notFound(target, [...restorePoints])
}

/** What is left to search. The segment that was searched last counts in: a record may begin before it. */
function legsUpTo(legs: readonly WalLeg[], searched: bigint | undefined): WalLeg[] {
  if (searched === undefined) return [...legs]
  return legs
    .filter((leg) => leg.first <= searched)
    .map((leg) => ({ ...leg, last: leg.last < searched ? leg.last : searched }))
}

function notFound(target: Extract<Target, { kind: 'xid' | 'name' }>, known: string[]): PgrecallError {
  const hint =
    target.kind === 'name'
      ? restorePointsText(known)
      : 'a transaction that is still running, or that changed nothing, has no end in the WAL'
  return new PgrecallError('unreachable', `${describeTarget(target)} is not in the archived WAL`, { hint })
}

function restorePointsText(known: readonly string[]): string {
  if (known.length === 0) return 'there is no restore point at all; pg_create_restore_point() makes one'
  const names = known.slice(0, 5).map((name) => `"${name}"`)
  return `there are restore points with these names: ${names.join(', ')}`
}

/** What the archive says about a target. @param location where it lies, of a named or numbered one */
export async function gather(
  repository: Repository,
  catalog: Catalog,
  path: TimelineHistory,
  backup: BackupSummary,
  { target }: RestoreQuestion,
  location: Lsn | undefined,
  context: SearchContext,
): Promise<Evidence> {
  const reach = reachAlong(path, lsn(backup.start.lsn), catalog.wal, catalog.walSegmentBytes)
  const found = location !== undefined && location < reach.end ? location : undefined
  const nothing = { lastMoment: undefined, lastTransaction: undefined, lastLsn: undefined }
  if (target.kind === 'immediate' && !reach.isGrowing) return { reach, found, ...nothing }
  const { lastMoment, lastTransaction, lastLsn } = await search(
    repository,
    catalog,
    reach.legs,
    { kind: 'end' },
    context,
  )
  return {
    reach: reach.isGrowing && lastLsn !== undefined ? { ...reach, end: lastLsn } : reach,
    found,
    lastMoment,
    lastTransaction,
    lastLsn,
  }
}

function search(
  repository: Repository,
  { cluster, walSegmentBytes }: Catalog,
  legs: Parameters<typeof searchWal>[0],
  target: Parameters<typeof searchWal>[1],
  { events, signal }: SearchContext,
): Promise<WalFinding> {
  return searchWal(legs, target, {
    segmentBytes: walSegmentBytes,
    read: (name) => readArchivedFile(repository, cluster, name, signal),
    onProgress: (segments) =>
      events.emit('progress', {
        task: 'Reading WAL',
        bytes: segments * walSegmentBytes,
        total: undefined,
        items: segments,
      }),
    onEnd: () => events.emit('progressEnd', { task: 'Reading WAL' }),
  })
}
