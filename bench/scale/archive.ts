import { linkSync, mkdirSync, readdirSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import { backupId, backupPrefix, identityKey, REPOSITORY_MARKER, walKey } from '../../src/catalog/layout.ts'
import { encodeRecord } from '../../src/catalog/record-file.ts'
import { formatLsn } from '../../src/postgres/lsn.ts'
import { segmentName, segmentStart } from '../../src/postgres/wal-file.ts'
import { SEGMENT_BYTES, storedRecord } from '../stored-record.ts'

export const CLUSTER = 'main'
export const SYSTEM_IDENTIFIER = '7400000000000000001'
const BETWEEN_BACKUPS_MS = 6 * 60 * 60_000
/** A full backup a week, and what builds upon it. */
const PER_FULL = 28
/** The links that one file may have on ext4. */
const MOST_LINKS = 65_000

/** An archive that has grown for years, up to now: backups six hours apart, and WAL without a hole, or with some. */
export interface Shape {
  backups: number
  segments: number
  gaps: number
  /** When the last backup ended. */
  now: Date
}

/** The records, oldest first, as many as are asked for; those behind the shape's own are of the time after it. */
export function recordsOf({ backups, segments, now }: Shape, from: number, count: number): BackupRecord[] {
  const records: BackupRecord[] = []
  const segmentOf = (index: number) => 1 + Math.floor((index * (segments - 2)) / backups)
  const momentOf = (index: number) => new Date(now.getTime() - (backups - index) * BETWEEN_BACKUPS_MS)
  const idOf = (index: number) => backupId(momentOf(index), index % PER_FULL === 0 ? 'full' : 'incr')
  const startOf = (index: number) => segmentStart(BigInt(segmentOf(index)), SEGMENT_BYTES) + 40n
  const nameOf = (number: number) => segmentName(1, BigInt(number), SEGMENT_BYTES)
  for (let index = from; index < from + count; index++) {
    const isFull = index % PER_FULL === 0
    const began = momentOf(index)
    const ended = new Date(began.getTime() + 60_000)
    const micros = (moment: Date) => moment.toISOString().replace('Z', '000Z')
    records.push(
      storedRecord({
        id: idOf(index),
        cluster: CLUSTER,
        systemIdentifier: SYSTEM_IDENTIFIER,
        type: isFull ? 'full' : 'incr',
        ...(!isFull && {
          parent: { id: idOf(index - 1), startLsn: formatLsn(startOf(index - 1)), timeline: 1 },
          increment: { source: 'wal-summaries', changedBlocks: 12_345, readBytes: 100_000_000 },
        }),
        start: {
          lsn: formatLsn(startOf(index)),
          walFile: nameOf(segmentOf(index)),
          time: micros(began),
        },
        stop: {
          lsn: formatLsn(startOf(index) + BigInt(SEGMENT_BYTES)),
          walFile: nameOf(segmentOf(index) + 1),
          time: micros(ended),
        },
        clusterBytes: 2_000_000_000,
        startedAt: began.toISOString(),
        finishedAt: ended.toISOString(),
      }),
    )
  }
  return records
}

/** The numbers of the segments that are stored, from one on. */
export function* segmentsOf({ segments, gaps }: Shape, from: number, count: number): Iterable<number> {
  const apart = gaps > 0 ? Math.floor(segments / gaps) : Number.POSITIVE_INFINITY
  for (let number = from; number < from + count; number++)
    // In the middle between two backups, so that none of them is without its own WAL.
    if (number % apart !== Math.floor(apart / 2) || number >= segments) yield number
}

/** Writes into a folder what a storage would have there; nothing is synced. Segments are links to a few small files. */
export class LocalArchive {
  readonly #root: string
  readonly #made = new Set<string>()

  constructor(root: string) {
    this.#root = root
  }

  begin(): void {
    const identity = { format: 1, systemIdentifier: SYSTEM_IDENTIFIER, walSegmentBytes: SEGMENT_BYTES }
    this.#write(REPOSITORY_MARKER, JSON.stringify({ format: 1, id: 'scale', created: '' }))
    this.#write(identityKey(CLUSTER), JSON.stringify(identity))
  }

  addBackups(records: readonly BackupRecord[]): void {
    for (const record of records) {
      const folder = backupPrefix(CLUSTER, record.id)
      for (const { name } of record.objects) this.#write(folder + name, 'x')
      this.#write(`${folder}backup.json`, encodeRecord(record))
    }
  }

  addSegments(numbers: Iterable<number>, modified: (share: number) => Date, total: number): void {
    let links = 0
    let source = ''
    let done = 0
    for (const number of numbers) {
      const path = this.#pathOf(walKey(CLUSTER, segmentName(1, BigInt(number), SEGMENT_BYTES)))
      if (links % MOST_LINKS === 0) {
        writeFileSync(path, 'x'.repeat(500))
        const moment = modified(Math.min(1, (done + MOST_LINKS) / total))
        utimesSync(path, moment, moment)
        source = path
        links = 0
      } else linkSync(source, path)
      links++
      done++
    }
  }

  #write(key: string, content: string | Uint8Array): void {
    writeFileSync(this.#pathOf(key), content)
  }

  #pathOf(key: string): string {
    const path = join(this.#root, key)
    const folder = dirname(path)
    if (!this.#made.has(folder)) mkdirSync(folder, { recursive: true, mode: 0o755 })
    this.#made.add(folder)
    return path
  }
}

/** Whether there is anything in a folder. */
export const isEmptyFolder = (path: string) => readdirSync(path).length === 0
