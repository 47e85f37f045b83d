import type { BackupSummary } from '../catalog/backup-record.ts'
import { walKey } from '../catalog/layout.ts'
import type { Repository } from '../catalog/repository.ts'
import { statWalFile } from '../catalog/wal-object.ts'
import { segmentNumberOf } from '../catalog/wal-ranges.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import { formatLsn } from '../postgres/lsn.ts'
import { segmentName, segmentStart } from '../postgres/wal-file.ts'
import { readSegmentHeader } from '../postgres/wal-page.ts'
import type { Carry } from '../postgres/wal-record.ts'
import { readRecords } from '../postgres/wal-records.ts'
import { readArchivedFile } from '../wal/read.ts'
import { readStoredSum } from '../wal/stored-sum.ts'
import { nothingRead, type ReadResult, type WalJob } from './read-job.ts'

export interface VerifiedWal {
  key: string
  bytes: number
  /** What is wrong; undefined where nothing is. */
  reason: string | undefined
  /** It cannot be decrypted here, so only that all of its bytes are there was seen. */
  isSizeOnly: boolean
  /** The file itself, where it could be read. */
  plain?: Buffer
}

/** The segments without which a backup is not consistent, by their numbers; undefined where they are inside of it. */
export function ownSegments({ standalone, start, stop, walSegmentBytes }: BackupSummary) {
  if (standalone) return undefined
  return {
    first: segmentNumberOf(start.walFile, walSegmentBytes),
    last: segmentNumberOf(stop.walFile, walSegmentBytes),
  }
}

/** Reads one archived file, decrypts it where this host can, and compares its SHA-256. */
export async function verifyWalFile(
  repository: Repository,
  cluster: string,
  name: string,
  signal?: AbortSignal,
): Promise<VerifiedWal> {
  const stored = await statWalFile(repository, cluster, name)
  const key = stored?.key ?? walKey(cluster, name)
  const result = { key, bytes: stored?.bytes ?? 0, reason: undefined, isSizeOnly: false }
  if (!stored) return { ...result, reason: 'it is missing from the archive' }
  try {
    const plain = await readArchivedFile(repository, cluster, name, signal, { wholeOnly: true })
    return plain ? { ...result, plain } : { ...result, reason: 'it was removed meanwhile' }
  } catch (error) {
    if (!(error instanceof PgrecallError)) throw error
    if (error.kind === 'damaged') return { ...result, reason: reasonOf(error) }
    if (error.kind !== 'key') throw error
    return { ...result, isSizeOnly: true, reason: await faultOfSize(repository, stored, signal) }
  }
}

async function faultOfSize(
  { storage }: Repository,
  { key, bytes }: { key: string; bytes: number },
  signal?: AbortSignal,
): Promise<string | undefined> {
  const sum = await readStoredSum(storage, key, 'sealed', signal)
  if (!sum) return 'it does not begin as pgrecall writes encrypted WAL'
  return sum.objectBytes === bytes ? undefined : `it has ${bytes} bytes instead of ${sum.objectBytes}`
}

/**
 * Reads segments one after the other. With `decode` it also goes from record to record, compares the address of every page and
 * the CRC of every record, and takes a segment for damaged in which WAL ends though there is more behind it.
 * @param onBytes hears of the stored bytes of each; may throw to stop
 */
export async function verifyWal(
  repository: Repository,
  job: WalJob,
  onBytes: (count: number) => void,
): Promise<ReadResult> {
  const result = nothingRead()
  let carry: Carry | undefined
  for (let number = job.first; number <= job.last; number++) {
    const name = segmentName(job.timeline, number, job.segmentBytes)
    const { key, bytes, reason, isSizeOnly, plain } = await verifyWalFile(repository, job.cluster, name)
    result.objects++
    result.bytes += bytes
    onBytes(bytes)
    if (isSizeOnly) result.sizeOnly++
    if (reason !== undefined) result.faults.push({ key, reason })
    const isToDecode = job.decode && plain !== undefined && reason === undefined
    const walk = isToDecode ? walkOver(plain, number, job, carry) : undefined
    carry = walk?.carry
    if (walk?.reason !== undefined) result.faults.push({ key, reason: walk.reason, isContent: true })
  }
  if (carry?.unfinished && job.goesOn) await finishLast(repository, job, carry, result)
  return result
}

/** The records of a segment. @returns what is wrong, and what the next one has to know */
function walkOver(plain: Buffer, number: bigint, job: WalJob, before: Carry | undefined) {
  const begin = segmentStart(number, job.segmentBytes)
  const { carry, validUntil } = readRecords(plain, { segmentStart: begin, carry: before, everyCrc: true })
  const stranger = foreign(plain, job)
  if (stranger !== undefined) return { carry: undefined, reason: stranger }
  const goesOn = number < job.last || job.goesOn
  const reason =
    carry || !goesOn
      ? undefined
      : `its records end at ${formatLsn(validUntil)}, where something else is than WAL, and later WAL is stored`
  return { carry, reason }
}

/** The record that begins in the last segment and ends in the next one, of which the rest is read elsewhere. */
async function finishLast(
  repository: Repository,
  { cluster, timeline, last, segmentBytes }: WalJob,
  carry: Carry,
  result: ReadResult,
): Promise<void> {
  const { key, reason, plain } = await verifyWalFile(
    repository,
    cluster,
    segmentName(timeline, last + 1n, segmentBytes),
  )
  // What is wrong with that segment is told by who reads it.
  if (reason !== undefined || !plain) return
  const begun = carry.unfinished!.lsn
  const { validUntil } = readRecords(plain, {
    segmentStart: carry.segmentStart,
    carry,
    everyCrc: true,
  })
  if (begun !== undefined && validUntil <= begun)
    result.faults.push({
      key,
      reason: `the record that begins at ${formatLsn(begun)} does not end in it`,
      isContent: true,
    })
}

function foreign(plain: Buffer, { systemIdentifier }: WalJob): string | undefined {
  const found = readSegmentHeader(plain)?.systemIdentifier
  if (systemIdentifier === undefined || found === systemIdentifier) return undefined
  return `it comes from another cluster: its system identifier is ${found}, not ${systemIdentifier}`
}
