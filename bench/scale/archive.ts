import { linkSync, mkdirSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import { backupId, backupPrefix, walKey } from '../../src/catalog/layout.ts'
import { encodeRecord } from '../../src/catalog/record-file.ts'
import { formatLsn } from '../../src/postgres/lsn.ts'
import { segmentName, segmentStart } from '../../src/postgres/wal-file.ts'
import { sideBySide } from '../../src/side-by-side.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { labUser } from '../../test/lab/user.ts'
import { SEGMENT_BYTES, storedRecord } from '../stored-record.ts'

export const CLUSTER = 'main'
const BETWEEN_BACKUPS_MS = 6 * 60 * 60_000
/** A full backup a week, and what builds upon it. */
const PER_FULL = 28
/** The links that one file may have on ext4. */
const MOST_LINKS = 65_000
/** No WAL: who only looks reads none but at the end. */
const SEGMENT = Buffer.alloc(500, 'x')
const AT_ONCE = 32

/** An archive that has grown for years, up to now: backups six hours apart, and WAL without a hole, or with some. */
export interface Shape {
  backups: number
  segments: number
  gaps: number
  systemIdentifier: string
  /** When the last backup ended. */
  now: Date
}

/** The records, oldest first, as many as are asked for; those behind the shape's own are of the time after it. */
export function recordsOf(
  { backups, segments, now, systemIdentifier }: Shape,
  from: number,
  count: number,
): BackupRecord[] {
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
        systemIdentifier,
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

/** When a segment came, by the share of all that had come before it. */
const momentOf = ({ backups, now }: Shape, share: number) =>
  new Date(now.getTime() - (1 - share) * backups * BETWEEN_BACKUPS_MS)

/** Some of the backups or segments of a shape, by their numbers: from 0 and from 1 on. */
export interface Run {
  from: number
  count: number
}

/** Stores some of an archive: into a bucket as any other would, into a folder by links, which are quicker to make. */
export async function storeArchive(
  storage: Storage,
  shape: Shape,
  backups: Run,
  segments: Run,
): Promise<void> {
  const records = recordsOf(shape, backups.from, backups.count)
  const numbers = segmentsOf(shape, segments.from, segments.count)
  if (storage.address.type === 'local') {
    const archive = new LocalArchive(storage.address.path, shape)
    return asLabUserDoes(() => archive.add(records, numbers))
  }
  await sideBySide(records, AT_ONCE, (record) =>
    storage.put(`${backupPrefix(CLUSTER, record.id)}backup.json`, encodeRecord(record)),
  )
  await sideBySide(numbers, AT_ONCE, (number) => storage.put(segmentKey(number), SEGMENT))
}

/** Writes what a storage would have in a folder; nothing is synced. Segments are links to a few small files. */
class LocalArchive {
  readonly #root: string
  readonly #shape: Shape
  readonly #made = new Set<string>()

  constructor(root: string, shape: Shape) {
    this.#root = root
    this.#shape = shape
  }

  add(records: Iterable<BackupRecord>, segments: Iterable<number>): void {
    for (const record of records) this.#addBackup(record)
    this.#addSegments(segments)
  }

  #addBackup(record: BackupRecord): void {
    const folder = backupPrefix(CLUSTER, record.id)
    for (const { name } of record.objects) writeFileSync(this.#pathOf(folder + name), 'x')
    writeFileSync(this.#pathOf(`${folder}backup.json`), encodeRecord(record))
  }

  #addSegments(numbers: Iterable<number>): void {
    let links = 0
    let source = ''
    for (const number of numbers) {
      const path = this.#pathOf(segmentKey(number))
      if (links++ % MOST_LINKS === 0) {
        writeFileSync(path, SEGMENT)
        const moment = momentOf(this.#shape, Math.min(1, (number + MOST_LINKS) / this.#shape.segments))
        utimesSync(path, moment, moment)
        source = path
      } else linkSync(source, path)
    }
  }

  #pathOf(key: string): string {
    const path = join(this.#root, key)
    const folder = dirname(path)
    if (!this.#made.has(folder)) mkdirSync(folder, { recursive: true, mode: 0o700 })
    this.#made.add(folder)
    return path
  }
}

const segmentKey = (number: number) => walKey(CLUSTER, segmentName(1, BigInt(number), SEGMENT_BYTES))

/** Its server archives there, too. */
function asLabUserDoes(work: () => void): void {
  if (labUser) process.setegid!(labUser.gid)
  if (labUser) process.seteuid!(labUser.uid)
  try {
    work()
  } finally {
    if (labUser) process.seteuid!(0)
    if (labUser) process.setegid!(0)
  }
}
