import { readdir, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import type { Catalog } from '../catalog/catalog.ts'
import { formatAge, formatBytes } from '../cli/units.ts'
import { type Finding, fail, pass, warn } from './finding.ts'

export interface SpaceFacts {
  repository: string
  /** Undefined where the store does not tell, as of a bucket. */
  freeBytes: number | undefined
  /** What the newest backup, and the newest that builds upon no other, take there. */
  newestBytes: number | undefined
  newestFullBytes: number | undefined
  /** Of the cluster, where no backup tells how much one takes. */
  dataBytes: number | undefined
}

/** @param dataBytes of the cluster */
export function spaceFacts(
  repository: string,
  freeBytes: number | undefined,
  { backups }: Pick<Catalog, 'backups'>,
  dataBytes: number | undefined,
): SpaceFacts {
  return {
    repository,
    freeBytes,
    newestBytes: backups.at(-1)?.storedBytes,
    newestFullBytes: backups.findLast(({ type }) => type === 'full')?.storedBytes,
    dataBytes,
  }
}

/** A cluster that compresses well takes a tenth; more than half of its size one seldom does. */
const LEAST_RATIO = 0.1
const USUAL_RATIO = 0.5

/** Whether the next backup fits: like the last one, and one day like the last full one. */
export function judgeRepositorySpace(facts: SpaceFacts): Finding[] {
  const { repository, freeBytes, newestBytes, newestFullBytes, dataBytes } = facts
  if (freeBytes === undefined) return []
  const subject = `space in "${repository}"`
  const free = `${formatBytes(freeBytes)} are free`
  const hint = 'pgrecall retention, or a larger disk'
  if (newestBytes !== undefined) {
    if (freeBytes < newestBytes)
      return [fail(subject, `${free}, and the last backup took ${formatBytes(newestBytes)}`, hint)]
    if (newestFullBytes !== undefined && freeBytes < newestFullBytes)
      return [
        warn(
          subject,
          `${free}, less than the newest full backup took (${formatBytes(newestFullBytes)})`,
          hint,
        ),
      ]
    return [pass(subject, `${free}; the last backup took ${formatBytes(newestBytes)}`)]
  }
  if (dataBytes !== undefined && freeBytes < dataBytes * USUAL_RATIO) {
    const text = `${free}, and the cluster has ${formatBytes(dataBytes)}`
    return [
      freeBytes < dataBytes * LEAST_RATIO
        ? fail(subject, text, 'use a larger disk')
        : warn(subject, text, 'use a larger disk'),
    ]
  }
  return [pass(subject, free)]
}

export interface WalDiskFacts {
  freeBytes: number
  /** What `pg_wal` takes now, in whole segments. */
  walBytes: number
  segmentBytes: number
  /** How fast WAL came into the archive lately; undefined where that is not known. */
  bytesPerSecond: number | undefined
  /** Up to where `pg_wal` may grow of itself, bytes. */
  maxWalBytes: number | undefined
  /** Up to where slots may let it grow, where there is a bound, and slots. */
  slotBytes: number | undefined
  /** `wal.queueMax`. */
  queueBytes: number | undefined
}

/** What the disk of `pg_wal` tells, where it is on this host. */
export async function askWalDisk(
  dataDirectory: string,
  segmentBytes: number,
): Promise<Pick<WalDiskFacts, 'freeBytes' | 'walBytes'>> {
  const folder = join(dataDirectory, 'pg_wal')
  const { bavail, bsize } = await statfs(folder)
  const segments = (await readdir(folder)).filter((name) => /^[0-9A-F]{24}$/.test(name))
  return { freeBytes: bavail * bsize, walBytes: segments.length * segmentBytes }
}

/** The rate at which WAL came into the archive, by its newest run. */
export function archivedRate(
  catalogs: readonly Pick<Catalog, 'wal' | 'walSegmentBytes'>[],
): number | undefined {
  for (const { wal, walSegmentBytes } of catalogs) {
    const run = wal.at(-1)?.ranges.at(-1)
    const spanMs = run ? Date.parse(run.newestStoredAt) - Date.parse(run.firstStoredAt) : 0
    if (run && spanMs > 3_600_000) return (run.segments * walSegmentBytes * 1000) / spanMs
  }
  return undefined
}

const LEAST_SEGMENTS = 8
const SPARE_SECONDS = { warn: 24 * 3600, fail: 3600 }

/** Whether `pg_wal` has room, also while nothing can be archived: a server whose `pg_wal` cannot grow stops. */
export function judgeWalDisk(facts: WalDiskFacts): Finding[] {
  const { freeBytes, walBytes, segmentBytes, bytesPerSecond, maxWalBytes, slotBytes, queueBytes } = facts
  const subject = 'space for pg_wal'
  const free = `${formatBytes(freeBytes)} are free on the disk of pg_wal`
  const hint = 'a larger disk for pg_wal; the server stops when it is full'
  if (freeBytes < LEAST_SEGMENTS * segmentBytes) return [fail(subject, free, hint)]
  const findings: Finding[] = []
  const room = freeBytes + walBytes
  const mayGrow = (bytes: number | undefined, setting: string) => {
    if (bytes !== undefined && bytes > room)
      findings.push(
        warn(
          subject,
          `${free}, and ${setting} lets pg_wal grow to ${formatBytes(bytes)}`,
          `ALTER SYSTEM SET ${setting} = '${Math.floor(room / 2 / 1024 / 1024)}MB'; SELECT pg_reload_conf();`,
        ),
      )
  }
  mayGrow(maxWalBytes, 'max_wal_size')
  mayGrow(slotBytes, 'max_slot_wal_keep_size')
  if (queueBytes !== undefined && queueBytes > freeBytes)
    findings.push(
      warn(
        subject,
        `${free}, so the disk is full before wal.queueMax (${formatBytes(queueBytes)}) is reached`,
        'lower wal.queueMax in the configuration',
      ),
    )
  const seconds = bytesPerSecond ? freeBytes / bytesPerSecond : undefined
  const lasts =
    seconds === undefined ? free : `${free}; should archiving fail, it lasts ${formatAge(1000 * seconds)}`
  if (seconds !== undefined && seconds < SPARE_SECONDS.warn)
    findings.push((seconds < SPARE_SECONDS.fail ? fail : warn)(subject, lasts, hint))
  return findings.length > 0 ? findings : [pass(subject, lasts)]
}
