import { backupRecordKey, walKey } from '../catalog/layout.ts'
import type { Repository } from '../catalog/repository.ts'
import { isSealed, readWholeContent } from '../catalog/sealed-object.ts'
import type { TimelineWal } from '../catalog/wal-ranges.ts'
import { segmentNumberOf } from '../catalog/wal-ranges.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import { parseBackupLabel } from '../postgres/backup-label.ts'
import { parseHistory } from '../postgres/timeline-history.ts'
import { segmentNumber } from '../postgres/wal-file.ts'
import { describeSegmentMismatch } from '../postgres/wal-page.ts'
import { readObject } from '../storage/storage.ts'
import { decodeWalFile } from '../wal/stored-file.ts'
import { readStoredSum } from '../wal/stored-sum.ts'
import type { FoundFaults } from './found-faults.ts'
import type { OtherWal } from './listed-wal.ts'
import type { Stock } from './stock.ts'

/** A segment has at most 1 GiB. */
const LARGEST_BYTES = 2 ** 31 - 1

export interface VerifiedOther {
  reason: string | undefined
  /** It cannot be decrypted here, so only that all of its bytes are there was seen. */
  isSizeOnly: boolean
}

/**
 * Reads what lies in the archive beside whole segments: histories, labels of backups, unfinished and growing segments, and notes of
 * what was given up. The sum is compared, and that the content is that of the name.
 * @param timelines what is stored, for a history that is that of another timeline
 * @throws PgrecallError `repository` when there is no answer
 */
export async function verifyOther(
  repository: Repository,
  other: OtherWal,
  timelines: readonly TimelineWal[],
  segmentBytes: number,
  signal: AbortSignal,
): Promise<VerifiedOther> {
  try {
    const reason = await faultOf(repository, other, timelines, segmentBytes, signal)
    return { reason, isSizeOnly: false }
  } catch (error) {
    signal.throwIfAborted()
    const kind = error instanceof PgrecallError ? error.kind : 'damaged'
    if (kind === 'key') return { reason: await faultOfSize(repository, other, signal), isSizeOnly: true }
    if (kind !== 'damaged') throw error
    return { reason: reasonOf(error), isSizeOnly: false }
  }
}

async function faultOf(
  repository: Repository,
  { file, key }: OtherWal,
  timelines: readonly TimelineWal[],
  segmentBytes: number,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (file.kind === 'dropped') return faultOfNote(await readObject(repository.storage, key, { signal }))
  const object = await readWholeContent(repository, key, { limit: LARGEST_BYTES, signal })
  if (!object) return 'it was removed meanwhile'
  const plain = decodeWalFile(object)
  switch (file.kind) {
    case 'history':
      return faultOfHistory(plain.toString('utf8'), file.timeline, timelines, segmentBytes)
    case 'backup':
      return faultOfLabel(plain.toString('latin1'), file.name, segmentBytes)
    case 'partial':
      return describeSegmentMismatch(file, plain)
    case 'receiving':
      return describeSegmentMismatch({ ...file, kind: 'segment' }, plain)
  }
}

/** WAL of a timeline lies behind where its parent was left. */
function faultOfHistory(
  text: string,
  timeline: number,
  timelines: readonly TimelineWal[],
  segmentBytes: number,
): string | undefined {
  const left = parseHistory(text, timeline).at(-2)?.end
  const first = timelines.find((entry) => entry.timeline === timeline)?.ranges[0]?.first
  if (left === undefined) return `it names no timeline that ${timeline} comes from`
  if (first === undefined || segmentNumberOf(first, segmentBytes) >= segmentNumber(left, segmentBytes))
    return undefined
  return `it says that timeline ${timeline} begins behind ${first}, which is stored`
}

/** `<segment>.<offset>.backup` is called after the start that stands in it. */
function faultOfLabel(text: string, name: string, segmentBytes: number): string | undefined {
  const { walFile, start } = parseBackupLabel(text)
  const offset = Number(start % BigInt(segmentBytes))
  const isOwn = name === `${walFile}.${offset.toString(16).toUpperCase().padStart(8, '0')}.backup`
  return isOwn ? undefined : `it is the label of the backup that began in ${walFile}`
}

function faultOfNote(bytes: Buffer | undefined): string | undefined {
  if (!bytes) return 'it was removed meanwhile'
  try {
    const { segment } = JSON.parse(bytes.toString('utf8')) as Record<string, unknown>
    return typeof segment === 'string' ? undefined : 'it names no segment'
  } catch {
    return 'it is no JSON'
  }
}

async function faultOfSize(
  { storage }: Repository,
  { key, bytes, file }: OtherWal,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (!isSealed(key) || file.kind === 'receiving') return undefined
  const sum = await readStoredSum(storage, key, 'sealed', signal)
  if (!sum) return 'it does not begin as pgrecall writes encrypted WAL'
  return sum.objectBytes === bytes ? undefined : `it has ${bytes} bytes instead of ${sum.objectBytes}`
}

/** The same for all that was listed, and for what is not there. */
export async function verifyOthers(
  repository: Repository,
  { others, missing, missingHistories, lostRecords, catalog }: Stock,
  found: FoundFaults,
  signal: AbortSignal,
): Promise<void> {
  const { cluster, wal, walSegmentBytes } = catalog
  found.onIdentity()
  for (const id of lostRecords)
    found.note({ key: backupRecordKey(cluster, id), reason: 'it is missing, and its backup was there' })
  for (const name of missingHistories)
    found.note({ key: walKey(cluster, name), reason: 'it is missing from the archive' })
  for (const span of missing) found.noteMissing(span)
  for (const other of others) {
    signal.throwIfAborted()
    const { reason, isSizeOnly } = await verifyOther(repository, other, wal, walSegmentBytes, signal)
    found.onOther(other, isSizeOnly)
    if (reason !== undefined) found.note({ key: other.key, reason })
  }
}
