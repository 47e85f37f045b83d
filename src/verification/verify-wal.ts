import type { BackupRecord } from '../catalog/backup-record.ts'
import { walKey } from '../catalog/layout.ts'
import type { Repository } from '../catalog/repository.ts'
import { statWalFile } from '../catalog/wal-object.ts'
import { segmentNumberOf } from '../catalog/wal-ranges.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import { historyName, segmentName } from '../postgres/wal-file.ts'
import { readArchivedFile } from '../wal/read.ts'
import { readStoredSum } from '../wal/stored-sum.ts'

export interface VerifiedWal {
  key: string
  bytes: number
  /** What is wrong; undefined where nothing is. */
  reason: string | undefined
  /** It cannot be decrypted here, so only that all of its bytes are there was seen. */
  isSizeOnly: boolean
}

/** The files of `pg_wal` without which a backup is not consistent. */
export function walNamesOf({ standalone, timeline, start, stop, walSegmentBytes }: BackupRecord): string[] {
  if (standalone) return []
  const [first, last] = [start, stop].map(({ walFile }) => segmentNumberOf(walFile, walSegmentBytes))
  const names = timeline > 1 ? [historyName(timeline)] : []
  for (let number = first!; number <= last!; number++)
    names.push(segmentName(timeline, number, walSegmentBytes))
  return names
}

/** Reads one archived file, decrypts it where this host can, and compares its SHA-256. */
export async function verifyWalFile(
  repository: Repository,
  cluster: string,
  name: string,
  signal: AbortSignal,
): Promise<VerifiedWal> {
  const stored = await statWalFile(repository, cluster, name)
  const key = stored?.key ?? walKey(cluster, name)
  const result = { key, bytes: stored?.bytes ?? 0, reason: undefined, isSizeOnly: false }
  if (!stored) return { ...result, reason: 'it is missing from the archive' }
  try {
    const found = await readArchivedFile(repository, cluster, name, signal, { wholeOnly: true })
    return found ? result : { ...result, reason: 'it was removed meanwhile' }
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
  signal: AbortSignal,
): Promise<string | undefined> {
  const sum = await readStoredSum(storage, key, 'sealed', signal)
  if (!sum) return 'it does not begin as pgrecall writes encrypted WAL'
  return sum.objectBytes === bytes ? undefined : `it has ${bytes} bytes instead of ${sum.objectBytes}`
}
