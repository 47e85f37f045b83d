import type { BackupSummary } from '../catalog/backup-record.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { walWithBackups } from '../catalog/catalog-file.ts'
import { KnownDamage } from '../catalog/known-damage.ts'
import { isWhole, type LogicalSummary } from '../catalog/logical-record.ts'
import type { Repository } from '../catalog/repository.ts'
import {
  droppedAtEnd,
  isThinned,
  lacksHistory,
  segmentNumberOf,
  storedBehind,
  type TimelineWal,
  walGaps,
} from '../catalog/wal-ranges.ts'
import { formatLsn, lsn } from '../postgres/lsn.ts'
import { historyName, segmentNumber, segmentStart } from '../postgres/wal-file.ts'
import { searchWal } from '../restore/find-target.ts'
import type { WalLeg } from '../restore/timeline-path.ts'
import { readArchivedFile } from '../wal/read.ts'
import type { Gap, RepositoryFacts, ServerFacts, StoredBackup, Window } from './facts.ts'
import { type Outlook, outlookOf, readRemembered } from './outlook.ts'
import { currentTimeline, endOf, pathTo, type Stretch, stretchesOf } from './windows.ts'

/** Segments without a commit are seldom many, as an idle server writes none; so much is read to find the last one. */
const LOOK_BACK_SEGMENTS = 8

/** So many of the newest windows are looked into: of an archive that was thinned out, there may be hundreds. */
const LOOKED_INTO = 8

interface Look {
  repository: Repository
  server: ServerFacts
  now: Date
  signal: AbortSignal
}

/** What is known of a cluster in one repository, beside what other repositories have. */
export async function repositoryFacts(catalog: Catalog, look: Look): Promise<RepositoryFacts> {
  const { repository, server, now } = look
  const timeline = currentTimeline(catalog, server.timeline ?? undefined)
  const own = catalog.wal.find((entry) => entry.timeline === timeline)
  const remembered = await readRemembered(repository, catalog.cluster)
  const damage = new KnownDamage(catalog, remembered.verifications)
  const { stretches, unusable } = stretchesOf(catalog, damage)
  const thin = new Set(stretches.filter((stretch) => endsOnPurpose(stretch, catalog)))
  const lookedInto = new Set(stretches.filter((stretch) => !thin.has(stretch)).slice(-LOOKED_INTO))
  const windows: Window[] = []
  let end: bigint | undefined
  for (const stretch of stretches) {
    const last = lookedInto.has(stretch) ? await lastCommit(stretch, catalog, look) : UNREAD
    if (stretch.timeline === timeline) end = last.end
    windows.push(thin.has(stretch) ? thinWindow(stretch) : windowOf(stretch, last))
  }
  const held: Omit<RepositoryFacts, keyof Outlook> = {
    repository: repository.name,
    location: repository.storage.location,
    error: null,
    currentTimeline: timeline ?? null,
    windows,
    unusable,
    gaps: gapsOf(catalog, windows, now),
    lostHistories: catalog.wal.filter(lacksHistory).map((lost) => ({
      timeline: lost.timeline,
      file: historyName(lost.timeline),
      isDamaged: lost.hasHistory,
    })),
    droppedAtEnd: own ? droppedAtEnd(own) : [],
    damagedRecords: catalog.damaged,
    damagedPages: catalog.backups.flatMap(({ id, damagedPages }) =>
      damagedPages ? [{ id, pages: damagedPages }] : [],
    ),
    newestBackup: storedBackup(catalog.backups.at(-1), now),
    newestFull: storedBackup(
      catalog.backups.findLast(({ type }) => type === 'full'),
      now,
    ),
    newestLogical: storedLogical(catalog.logical.findLast(isWhole), now),
    archived: archivedEnd(own, server, catalog.walSegmentBytes, now),
    receiving: own?.receiving ? { ...own.receiving, lsn: end === undefined ? null : formatLsn(end) } : null,
    freeBytes: (await repository.storage.freeBytes()) ?? null,
    fullInSeconds: null,
    missing: [],
    wal: walWithBackups(catalog),
  }
  return { ...held, ...outlookOf(held, catalog, remembered, look) }
}

/** A repository of which nothing is known. */
export function unreadable({ name, storage }: Repository, error: string): RepositoryFacts {
  return {
    repository: name,
    location: storage.location,
    error,
    currentTimeline: null,
    windows: [],
    unusable: [],
    gaps: [],
    lostHistories: [],
    droppedAtEnd: [],
    damagedRecords: [],
    damagedPages: [],
    newestBackup: null,
    newestFull: null,
    newestLogical: null,
    archived: null,
    receiving: null,
    freeBytes: null,
    rpo: null,
    restore: null,
    stored: null,
    growth: null,
    fullInSeconds: null,
    verified: null,
    missing: [],
    wal: [],
  }
}

function windowOf(stretch: Stretch, { moment, isExact, begin }: LastCommit): Window {
  const [oldest, newest] = [stretch.backups[0]!, stretch.backups.at(-1)!]
  const isAfter = begin !== undefined && begin >= lsn(newest.stop.lsn)
  return {
    timeline: stretch.timeline,
    from: { backup: oldest.id, time: oldest.stop.time, lsn: oldest.stop.lsn },
    to: {
      time: isAfter && moment! > newest.stop.time ? moment! : newest.stop.time,
      lsn: isAfter ? formatLsn(begin) : newest.stop.lsn,
      isExact,
    },
    backups: stretch.backups.map(({ id }) => id),
    cutBy: stretch.cutBy ?? null,
  }
}

/** Of stretches that were thinned out there may be many, and no WAL is read of them. */
function thinWindow(stretch: Stretch): Window {
  const atItsBackup = { moment: undefined, isExact: true, begin: undefined, end: undefined }
  return { ...windowOf(stretch, atItsBackup), cutBy: null, isThinned: true }
}

/** When the last transaction of a stretch ended, where the record of that begins, and where the last record of all ends. */
interface LastCommit {
  moment: string | undefined
  isExact: boolean
  begin: bigint | undefined
  end: bigint | undefined
}

const UNREAD: LastCommit = { moment: undefined, isExact: false, begin: undefined, end: undefined }

function endsOnPurpose({ cutBy }: Stretch, { wal }: Catalog): boolean {
  if (cutBy === undefined) return false
  const timeline = Number.parseInt(cutBy.slice(0, 8), 16)
  return isThinned(
    wal.find((entry) => entry.timeline === timeline),
    cutBy,
  )
}

/** WAL that cannot be read hides it, and is found by whoever verifies. */
async function lastCommit(
  stretch: Stretch,
  catalog: Catalog,
  { repository, signal }: Look,
): Promise<LastCommit> {
  const { cluster, walSegmentBytes } = catalog
  const tail = endOf(stretch, LOOK_BACK_SEGMENTS)
  try {
    const found = await searchWal(
      tail,
      { kind: 'end' },
      {
        segmentBytes: walSegmentBytes,
        read: (name) => readArchivedFile(repository, cluster, name, signal),
        onProgress: () => {},
        onEnd: () => {},
      },
    )
    const { lastMoment, lastTransaction, lastLsn } = found
    const moment = lastMoment === undefined ? undefined : isoOf(lastMoment)
    // Where no segment is left to read, there is no commit after the backup.
    const isExact = moment !== undefined || segmentsOf(tail) === segmentsOf(stretch.legs)
    return { moment, isExact, begin: lastTransaction, end: lastLsn }
  } catch {
    signal.throwIfAborted()
    return UNREAD
  }
}

const segmentsOf = (legs: readonly WalLeg[]) =>
  legs.reduce((sum, { first, last }) => sum + Number(last - first) + 1, 0)

/** Microseconds since 1970 as the records of backups have it, so that the two compare. */
function isoOf(micros: bigint): string {
  const iso = new Date(Number(micros / 1000n)).toISOString()
  return iso.replace('Z', `${String(micros % 1000n).padStart(3, '0')}Z`)
}

function gapsOf({ wal, walSegmentBytes }: Catalog, windows: readonly Window[], now: Date): Gap[] {
  const gaps = walGaps(wal, walSegmentBytes).map((gap): Gap => {
    const own = wal.find(({ timeline }) => timeline === gap.timeline)!
    return {
      dropped: [],
      ...gap,
      ageSeconds: secondsSince(storedBehind(own, gap), now),
      isBehindAnother: windows.some((window) => endsBefore(window, gap, wal, walSegmentBytes)),
      cuts: [],
    }
  })
  for (const [index, { timeline, backups, to, cutBy }] of windows.entries()) {
    if (cutBy === null) continue
    let gap = gaps.find(({ first, last }) => first <= cutBy && last !== null && cutBy <= last)
    if (!gap) {
      const own = Number.parseInt(cutBy.slice(0, 8), 16)
      gap = {
        timeline: own,
        first: cutBy,
        last: null,
        segments: null,
        dropped: [],
        ageSeconds: null,
        isBehindAnother: false,
        cuts: [],
      }
      gaps.push(gap)
    }
    const next = windows[index + 1]
    const lostUntil = next?.timeline === timeline ? next.from.time : null
    gap.cuts.push({ timeline, backups, lostFrom: to.time, lostUntil })
  }
  return gaps
}

/** Whether a window is cut before a gap that lies on its way too. */
function endsBefore(
  { timeline, cutBy }: Window,
  gap: { timeline: number; first: string },
  wal: readonly TimelineWal[],
  segmentBytes: number,
): boolean {
  if (cutBy === null) return false
  const start = segmentNumberOf(gap.first, segmentBytes)
  const leg = pathTo(wal, timeline).find((stretch) => stretch.timeline === gap.timeline)
  const isOnWay = leg !== undefined && (leg.end === undefined || segmentStart(start, segmentBytes) < leg.end)
  return isOnWay && segmentNumberOf(cutBy, segmentBytes) < start
}

function storedBackup(backup: BackupSummary | undefined, now: Date): StoredBackup | null {
  if (!backup) return null
  const { id, stop, storedBytes } = backup
  return { id, time: stop.time, ageSeconds: secondsSince(stop.time, now), storedBytes }
}

/** No snapshot is older than its begin. */
function storedLogical(backup: LogicalSummary | undefined, now: Date): StoredBackup | null {
  if (!backup) return null
  const { id, startedAt: time, storedBytes } = backup
  return { id, time, ageSeconds: secondsSince(time, now), storedBytes }
}

function archivedEnd(
  wal: TimelineWal | undefined,
  server: ServerFacts,
  segmentBytes: number,
  now: Date,
): RepositoryFacts['archived'] {
  const last = wal?.ranges.at(-1)
  if (!last) return null
  // A standby may know less than the archive has.
  const writing = server.lsn !== null && !server.inRecovery && segmentNumber(lsn(server.lsn), segmentBytes)
  const stored = wal?.receiving
    ? segmentNumberOf(wal.receiving.segment, segmentBytes) - 1n
    : segmentNumberOf(last.last, segmentBytes)
  const behind = writing ? Number(writing - 1n - stored) : undefined
  return {
    lastSegment: last.last,
    storedAt: last.newestStoredAt,
    ageSeconds: secondsSince(wal?.receiving?.storedAt ?? last.newestStoredAt, now),
    behindSegments: behind === undefined ? null : Math.max(0, behind),
  }
}

/** A clock that was set back makes nothing younger than now. */
const secondsSince = (iso: string, now: Date) =>
  Math.max(0, Math.round((now.getTime() - Date.parse(iso)) / 1000))
