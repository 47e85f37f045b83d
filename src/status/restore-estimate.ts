import type { BackupSummary } from '../catalog/backup-record.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { isLogicalId } from '../catalog/layout.ts'
import { isWhole, type LogicalSummary } from '../catalog/logical-record.ts'
import type { RestoreRate } from '../catalog/restore-rates.ts'
import { segmentNumberOf } from '../catalog/wal-ranges.ts'
import { lsn } from '../postgres/lsn.ts'
import { segmentStart } from '../postgres/wal-file.ts'
import { clusterBytesOf } from './growth.ts'

/** How long it takes to have the newest backup back, brought up to the end of the archive. */
export interface RestoreEstimate {
  backup: string
  seconds: number
  /**
   * Writing the cluster's files, or loading a dump. The rate is that of so many restores, the newest ones, or, where none was ever
   * measured, of backups.
   */
  copy: {
    bytes: number
    bytesPerSecond: number
    basis: 'restores' | 'backups'
    samples: number
  }
  /** Replaying the WAL since the backup's start, at a rate that nobody measured; null for a dump. */
  replay: { bytes: number; assumedBytesPerSecond: number } | null
}

/**
 * PostgreSQL replays WAL in one process, and waits for pages that it does not have. Two segments a second is what it mostly
 * reaches; it may be a third of that, or ten times as much.
 */
export const ASSUMED_REPLAY_BYTES_PER_SECOND = 32 * 1024 * 1024

/** An estimate is the middle one of so many, so that a single slow one changes little. */
const SAMPLES = 5

export type EstimateSource = Pick<Catalog, 'backups' | 'logical' | 'wal' | 'walSegmentBytes'>

/**
 * The expected time to restore. Pure.
 * @param rates what restores took, oldest first
 * @returns undefined where there is no backup of the whole cluster, or no rate
 */
export function restoreEstimate(
  catalog: EstimateSource,
  rates: readonly RestoreRate[],
): RestoreEstimate | undefined {
  const backup = catalog.backups.at(-1)
  if (backup) {
    const replay = {
      bytes: walSince(backup, catalog),
      assumedBytesPerSecond: ASSUMED_REPLAY_BYTES_PER_SECOND,
    }
    return estimateOf(backup.id, clusterBytesOf(backup), copyRate(catalog, rates), replay)
  }
  const dump = catalog.logical.findLast(isWhole)
  return dump && estimateOf(dump.id, databaseBytes(dump), loadRate(catalog, rates), null)
}

type Rate = Omit<RestoreEstimate['copy'], 'bytes'>

function estimateOf(
  backup: string,
  bytes: number,
  rate: Rate | undefined,
  replay: RestoreEstimate['replay'],
): RestoreEstimate | undefined {
  if (!rate) return undefined
  const replaySeconds = replay ? replay.bytes / replay.assumedBytesPerSecond : 0
  const seconds = Math.round(bytes / rate.bytesPerSecond + replaySeconds)
  return { backup, seconds, copy: { bytes, ...rate }, replay }
}

/** The rate of restores, or of full backups, which read as much as a restore writes. */
function copyRate({ backups }: EstimateSource, rates: readonly RestoreRate[]): Rate | undefined {
  const own = rates.filter(({ backup }) => !isLogicalId(backup))
  const read = (backup: BackupSummary) => backup.type === 'full' && backup.consolidatedFrom === undefined
  return (
    middleOf('restores', own) ??
    middleOf(
      'backups',
      newestOf(backups, read).map((backup) => measured(backup, backup.dataBytes - backup.resumedBytes)),
    )
  )
}

/** The rate of restores of dumps, or that of dumping. */
function loadRate({ logical }: EstimateSource, rates: readonly RestoreRate[]): Rate | undefined {
  const own = rates.filter(({ backup }) => isLogicalId(backup))
  const dumps = newestOf(logical, isWhole).map((dump) => measured(dump, databaseBytes(dump)))
  return middleOf('restores', own) ?? middleOf('backups', dumps)
}

/** What they took up on the server: rows and indexes, as they are made again. */
const databaseBytes = ({ databases }: LogicalSummary) => databases.reduce((sum, { bytes }) => sum + bytes, 0)

function newestOf<Backup>(backups: readonly Backup[], isWanted: (backup: Backup) => boolean): Backup[] {
  const found: Backup[] = []
  for (let at = backups.length - 1; at >= 0 && found.length < SAMPLES; at--)
    if (isWanted(backups[at]!)) found.unshift(backups[at]!)
  return found
}

const measured = (
  { startedAt, finishedAt }: Pick<BackupSummary | LogicalSummary, 'startedAt' | 'finishedAt'>,
  bytes: number,
) => ({ bytes, seconds: (Date.parse(finishedAt) - Date.parse(startedAt)) / 1000 })

function middleOf(
  basis: Rate['basis'],
  all: readonly { bytes: number; seconds: number }[],
): Rate | undefined {
  const rates = all
    .filter(({ bytes, seconds }) => bytes > 0 && seconds > 0)
    .slice(-SAMPLES)
    .map(({ bytes, seconds }) => bytes / seconds)
    .toSorted((a, b) => a - b)
  const middle = rates[Math.floor((rates.length - 1) / 2)]
  return middle === undefined ? undefined : { bytesPerSecond: middle, basis, samples: rates.length }
}

/** From a backup's start to the end of the newest timeline. LSNs go on from one timeline to the next. */
function walSince(backup: BackupSummary, { wal, walSegmentBytes }: EstimateSource): number {
  const last = wal.findLast(({ ranges }) => ranges.length > 0)?.ranges.at(-1)?.last
  if (last === undefined) return 0
  const end = segmentStart(segmentNumberOf(last, walSegmentBytes) + 1n, walSegmentBytes)
  const bytes = Number(end - lsn(backup.start.lsn))
  return Math.max(0, bytes)
}
