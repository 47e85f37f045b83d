import type { BackupSummary } from '../../src/catalog/backup-record.ts'
import type { Catalog } from '../../src/catalog/catalog.ts'
import type { LogicalSummary } from '../../src/catalog/logical-record.ts'
import type { Ancestor, TimelineWal } from '../../src/catalog/wal-ranges.ts'
import { formatLsn } from '../../src/postgres/lsn.ts'
import { segmentName, segmentStart } from '../../src/postgres/wal-file.ts'
import { increment, logicalSummary, SEGMENT, summary } from '../catalog/stored.ts'
import { randomFrom } from '../random.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
export const DAY = 24 * HOUR
export const GIB = 1024 ** 3

interface Line {
  timeline: number
  history: Ancestor[]
  /** Segments without a hole: first and last, and when they were stored. */
  runs: { first: number; last: number; from: number; to: number }[]
}

/**
 * A cluster that is made up, as time goes by: WAL is written evenly, backups are taken, segments get lost, and it is recovered to
 * an earlier moment. The same every time.
 */
export class MadeUpCluster {
  readonly #random = randomFrom(7)
  readonly #backups: BackupSummary[] = []
  readonly #logical: LogicalSummary[] = []
  readonly #lines: Line[] = [{ timeline: 1, history: [], runs: [] }]
  readonly #segmentEvery: number
  readonly #name: string
  #bytes: number
  #now: number
  #segment = 100

  constructor(name: string, begin: Date, bytes: number, segmentEvery = 12 * MINUTE) {
    this.#name = name
    this.#now = begin.getTime()
    this.#bytes = bytes
    this.#segmentEvery = segmentEvery
  }

  get now(): number {
    return this.#now
  }

  get #line(): Line {
    return this.#lines.at(-1)!
  }

  /** Lets time go by, in which WAL is stored, or gets lost. */
  wait(ms: number, arrives = true): void {
    const count = Math.max(1, Math.round(ms / this.#segmentEvery))
    const last = this.#segment + count - 1
    const run = this.#line.runs.at(-1)
    if (arrives && run?.last === this.#segment - 1) Object.assign(run, { last, to: this.#now + ms })
    else if (arrives)
      this.#line.runs.push({ first: this.#segment, last, from: this.#now, to: this.#now + ms })
    this.#segment += count
    this.#now += ms
    this.#bytes *= 1 + (ms / DAY) * 0.004
  }

  /** Takes a backup, of which the segments before and behind are stored. */
  back(type: 'full' | 'diff' | 'incr', facts: Partial<BackupSummary> = {}): BackupSummary {
    const begun = this.#now
    const share = type === 'full' ? 1 : type === 'diff' ? 0.12 : 0.03 + 0.03 * this.#random()
    const dataBytes = Math.round(this.#bytes * share)
    const tookMs = (dataBytes / ((380 + 90 * this.#random()) * 1024 ** 2)) * 1000
    const first = this.#segment
    this.wait(Math.max(tookMs, MINUTE))
    const lower = this.#backups.findLast((backup) => type === 'incr' || backup.type === 'full')
    const id = `${new Date(begun).toISOString().replace(/[-:]|\.\d+/g, '')}-${type}`
    const place = {
      ...{ cluster: this.#name, first, last: this.#segment - 1, timeline: this.#line.timeline },
      ...{ dataBytes, clusterBytes: Math.round(this.#bytes), storedBytes: Math.round(dataBytes * 0.31) },
    }
    const made = type === 'full' || !lower ? summary(id, place) : increment(id, lower, place)
    const [startedAt, finishedAt] = [new Date(begun).toISOString(), new Date(this.#now).toISOString()]
    const backup = {
      ...made,
      ...{ startedAt, finishedAt, ...facts },
      start: { ...made.start, time: startedAt },
      stop: { ...made.stop, time: finishedAt },
    }
    this.#backups.push(backup)
    return backup
  }

  dump(facts: Partial<LogicalSummary> = {}): void {
    const startedAt = new Date(this.#now).toISOString()
    const id = `${startedAt.replace(/[-:]|\.\d+/g, '')}-logical`
    const finishedAt = new Date(this.#now + 20 * MINUTE).toISOString()
    const storedBytes = Math.round(this.#bytes * 0.16)
    const place = { cluster: this.#name, startedAt, finishedAt, storedBytes }
    this.#logical.push(logicalSummary(id, { ...place, ...facts }))
  }

  /** The cluster is recovered to how it was so long ago, and goes on from there as another timeline. */
  goBack(ms: number): void {
    const { timeline, history } = this.#line
    const at = this.#segment - Math.round(ms / this.#segmentEvery)
    const switchedAt = formatLsn(segmentStart(BigInt(at), SEGMENT) + 0x8000n)
    this.#lines.push({
      timeline: timeline + 1,
      history: [...history, { timeline, switchedAt }],
      runs: [],
    })
    this.#segment = at
  }

  /** A backup, and what becomes of it, is gone. */
  lose(backup: BackupSummary): void {
    this.#backups.splice(this.#backups.indexOf(backup), 1)
  }

  catalog(): Catalog {
    return {
      cluster: this.#name,
      systemIdentifier: '7400000000000000001',
      walSegmentBytes: SEGMENT,
      backups: this.#backups,
      logical: this.#logical,
      wal: this.#lines.map(walOf),
      damaged: [],
    }
  }
}

function walOf({ timeline, history, runs }: Line): TimelineWal {
  const name = (number: number) => segmentName(timeline, BigInt(number), SEGMENT)
  return {
    timeline,
    ranges: runs.map(({ first, last, from, to }) => ({
      first: name(first),
      last: name(last),
      segments: last - first + 1,
      storedBytes: (last - first + 1) * 5_000_000,
      firstStoredAt: new Date(from).toISOString(),
      newestStoredAt: new Date(to).toISOString(),
    })),
    hasHistory: timeline > 1,
    ...(timeline > 1 && { history }),
  }
}

/** Weekly full backups, daily ones upon them, in the middle of the week a differential one, and a dump every week. */
export function weeks(cluster: MadeUpCluster, count: number, day: (index: number) => void = () => {}): void {
  for (let index = 0; index < count * 7; index++) {
    const at = cluster.now
    const weekday = index % 7
    cluster.back(weekday === 0 ? 'full' : weekday === 4 ? 'diff' : 'incr')
    if (weekday === 2) cluster.dump()
    day(index)
    cluster.wait(Math.max(HOUR, at + DAY - cluster.now))
  }
}
