import type { BackupSummary } from '../../src/catalog/backup-record.ts'
import type { Catalog } from '../../src/catalog/catalog.ts'
import type { Ancestor, TimelineWal, WalRun } from '../../src/catalog/wal-ranges.ts'
import { formatLsn, lsn } from '../../src/postgres/lsn.ts'
import { segmentName, segmentStart } from '../../src/postgres/wal-file.ts'
import { SEGMENT, summary } from '../catalog/stored.ts'
import { randomFrom } from '../random.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

/** A segment of the WAL that was written once. Moments are milliseconds since 1970, by clocks that are right. */
export interface Segment {
  number: number
  /** When its last transaction ended. */
  at: number
  /** Undefined where it never arrived. */
  storedAt: number | undefined
}

export interface Timeline {
  timeline: number
  history: Ancestor[]
  segments: Segment[]
  receiving?: Segment
  /** Backups that a recovery to this timeline can begin with. */
  backups: BackupSummary[]
}

/** What a cluster has gone through, and what is stored of it. */
export interface Archive {
  catalog: Catalog
  timelines: Timeline[]
  /** Whether each backup tells when it was taken, and not what a clock said that was wrong. */
  clocksAreRight: boolean
  /** When the history ends. */
  end: number
  /** Whole numbers that go on from where the history ended. */
  below: (limit: number) => number
}

/**
 * Backups of all types over months; WAL that does not arrive; recoveries to an earlier moment, from which another timeline
 * goes on; clocks that are wrong; links and histories that are lost.
 */
export function randomArchive(seed: number): Archive {
  const random = randomFrom(seed)
  const below = (limit: number) => Math.floor(random() * limit)
  const clocksAreRight = below(5) > 0
  let clock = Date.UTC(2026, 0, 1) + below(300) * DAY
  let position = 1 + below(40)
  let current: Timeline = { timeline: 1, history: [], segments: [], backups: [] }
  const timelines = [current]
  const backups = new Map<string, BackupSummary>()

  const write = (count: number, pace: number, arrives: boolean) => {
    for (let index = 0; index < count; index++) {
      clock += MINUTE + below(pace)
      const storedAt = arrives ? clock + MINUTE / 2 : undefined
      current.segments.push({ number: position++, at: clock, storedAt })
    }
  }
  const take = () => {
    const error = clocksAreRight || below(3) > 0 ? 0 : (below(2) ? 1 : -1) * below(900) * DAY
    const arrives = below(12) > 0
    const first = position
    const begun = clock
    write(below(3), HOUR, arrives)
    clock += MINUTE
    const lies = { first, last: position, timeline: current.timeline }
    const backup = anyBackup(lies, { begun: begun + error, ended: clock + error }, current, below)
    write(1, MINUTE, arrives)
    if (backups.has(backup.id)) return
    backups.set(backup.id, backup)
    current.backups.push(backup)
  }
  const goBack = () => {
    const source = timelines[below(timelines.length)]!
    const last = source.segments.at(-1)
    if (!last) return
    const at = below(2) === 0 ? last : source.segments[below(source.segments.length)]!
    const timeline = timelines.length + 1
    const switchedAt = place(at.number, offsetOf(timeline) - 0x1000n)
    // The promotion came before the old segment was full, so it may never have been stored under its own name.
    if (at === last && below(2) === 0) last.storedAt = undefined
    position = at.number
    current = {
      timeline,
      history: [...source.history, { timeline: source.timeline, switchedAt }],
      segments: [],
      backups: source.backups.filter(({ stop }) => lsn(stop.lsn) <= lsn(switchedAt)),
    }
    timelines.push(current)
  }

  for (let left = 1 + below(16); left > 0; left--) {
    clock += below(4) === 0 ? below(10 * DAY) : below(DAY)
    const event = below(12)
    if (event < 7) take()
    else if (event < 9) write(1 + below(5), 6 * HOUR, true)
    else if (event < 10) write(1 + below(2), HOUR, false)
    else goBack()
  }
  if (below(6) === 0) current.receiving = { number: position, at: clock + MINUTE, storedAt: clock + MINUTE }

  const losesLinks = below(5) === 0
  const left = [...backups.values()].filter(() => !losesLinks || below(6) > 0)
  const catalog: Catalog = {
    cluster: 'main',
    systemIdentifier: '7400000000000000001',
    walSegmentBytes: SEGMENT,
    backups: left.toSorted((a, b) => (a.id < b.id ? -1 : 1)),
    logical: [],
    wal: timelines.map((timeline) => walOf(timeline, below(30) === 0)).filter(isAnything),
    damaged: below(25) === 0 ? [{ id: '20260401T000000Z-incr', reason: 'it is cut off' }] : [],
  }
  return { catalog, timelines, clocksAreRight, end: clock, below }
}

function anyBackup(
  lies: { first: number; last: number; timeline: number },
  { begun, ended }: { begun: number; ended: number },
  { backups }: Timeline,
  below: (limit: number) => number,
): BackupSummary {
  const wanted = (['full', 'full', 'incr', 'incr', 'diff'] as const)[below(5)]!
  const parents = wanted === 'diff' ? backups.filter(({ type }) => type === 'full') : backups
  const parent = wanted === 'full' ? undefined : parents.at(-1 - (below(4) === 0 ? below(parents.length) : 0))
  const type = parent ? wanted : 'full'
  const moment = new Date(begun).toISOString().replace(/[-:]|\.\d+/g, '')
  const backup = summary(`${moment}-${type}`, {
    ...lies,
    type,
    ...(parent && { parent: { id: parent.id, startLsn: parent.start.lsn, timeline: parent.timeline } }),
    standalone: below(8) === 0,
  })
  const offset = offsetOf(lies.timeline)
  return {
    ...backup,
    start: { ...backup.start, lsn: place(lies.first, offset), time: timeOf(begun) },
    stop: { ...backup.stop, lsn: place(lies.last, offset + 0x800n), time: timeOf(ended) },
  }
}

/** Where in a segment a timeline's backups lie: behind those of the timelines that were before it, and its own beginning. */
const offsetOf = (timeline: number) => BigInt(timeline) * 0x80000n

const place = (segment: number, offset: bigint) => formatLsn(segmentStart(BigInt(segment), SEGMENT) + offset)

/** As PostgreSQL's clock is recorded. */
const timeOf = (ms: number) => new Date(ms).toISOString().replace('Z', '000Z')

/** What the archive has of a timeline. @param isLost whether its history is */
export function walOf({ timeline, history, segments, receiving }: Timeline, isLost: boolean): TimelineWal {
  const ranges: WalRun[] = []
  let end = -1
  for (const { number, storedAt } of segments) {
    if (storedAt === undefined) continue
    const name = segmentName(timeline, BigInt(number), SEGMENT)
    const time = new Date(storedAt).toISOString()
    const run = number === end + 1 ? ranges.at(-1) : undefined
    if (run) run.last = name
    else
      ranges.push({
        ...{ first: name, last: name, segments: 0, storedBytes: 0 },
        ...{ firstStoredAt: time, newestStoredAt: time },
      })
    const grown = ranges.at(-1)!
    grown.segments++
    grown.storedBytes += 10
    if (time > grown.newestStoredAt) grown.newestStoredAt = time
    end = number
  }
  return {
    timeline,
    ranges,
    hasHistory: timeline > 1 && !isLost,
    ...(timeline > 1 && !isLost && { history }),
    ...(receiving && {
      receiving: {
        segment: segmentName(timeline, BigInt(receiving.number), SEGMENT),
        storedBytes: 5,
        storedAt: new Date(receiving.storedAt!).toISOString(),
      },
    }),
  }
}

const isAnything = ({ ranges, hasHistory, receiving }: TimelineWal) =>
  ranges.length > 0 || hasHistory || receiving !== undefined
