import { formatAge, formatBytes, formatCount, formatDuration, formatRate } from '../cli/units.ts'
import type { RepositoryFacts } from '../status/facts.ts'
import { mostLost } from '../status/rpo.ts'
import { seconds } from './wal-text.ts'

interface Line {
  title: string
  text: string
}

/** What is known of a repository, one thing a line; what is not known has none. */
export function outlookLines(facts: RepositoryFacts): Line[] {
  const texts: [title: string, text: string | undefined][] = [
    ['Last backup', backupText(facts)],
    ['Would lose', lossText(facts)],
    ['Restore takes', restoreText(facts)],
    ['Stored', storedText(facts)],
    ['Grows', growthText(facts)],
    ['Free', freeText(facts)],
    ['Verified', verifiedText(facts)],
  ]
  return texts.flatMap(([title, text]) => (text === undefined ? [] : [{ title, text }]))
}

const ago = (ageSeconds: number) => `${formatAge(1000 * ageSeconds)} ago`

function backupText({ newestBackup, newestFull, newestLogical }: RepositoryFacts): string | undefined {
  const parts = [
    newestBackup && `${ago(newestBackup.ageSeconds)}, ${newestBackup.id}`,
    newestFull && newestFull.id !== newestBackup?.id && `full ${ago(newestFull.ageSeconds)}`,
    newestLogical && `logical ${ago(newestLogical.ageSeconds)}${newestBackup ? '' : `, ${newestLogical.id}`}`,
  ].filter((part): part is string => typeof part === 'string')
  return parts.length === 0 ? undefined : parts.join('; ')
}

function lossText({ rpo }: RepositoryFacts): string | undefined {
  if (!rpo) return undefined
  const { since, unstoredBytes, basis } = rpo
  if (since === null) return 'nothing, if this host died now: all WAL is stored'
  const bytes = unstoredBytes ? `; ${formatBytes(unstoredBytes)} of WAL are not stored` : ''
  const unasked = basis === 'archive' ? ', unless the server has written nothing since' : ''
  return `${mostLost(rpo)}, if this host died now: from ${seconds(since)} on${unasked}${bytes}`
}

function restoreText({ restore }: RepositoryFacts): string | undefined {
  if (!restore) return undefined
  const { copy, replay } = restore
  const whose =
    copy.basis === 'restores'
      ? `as ${formatCount(copy.samples, 'restore')} did`
      : `as ${formatCount(copy.samples, 'backup')} did, since no restore was measured`
  const wal = replay
    ? `; and ${formatBytes(replay.bytes)} of WAL at ${formatRate(replay.assumedBytesPerSecond)}, which is assumed`
    : ''
  return `about ${formatDuration(1000 * restore.seconds)}: ${formatBytes(copy.bytes)} at ${formatRate(copy.bytesPerSecond)}, ${whose}${wal}`
}

function storedText({ stored }: RepositoryFacts): string | undefined {
  if (!stored) return undefined
  const { backups, backupBytes, logical, logicalBytes, walSegments, walBytes } = stored
  const parts = [
    backups > 0 && `${formatCount(backups, 'backup')} ${formatBytes(backupBytes)}`,
    logical > 0 && `${formatCount(logical, 'logical backup')} ${formatBytes(logicalBytes)}`,
    walSegments > 0 && `${formatCount(walSegments, 'WAL segment')} ${formatBytes(walBytes)}`,
  ].filter((part): part is string => typeof part === 'string')
  return parts.length === 0 ? undefined : parts.join(', ')
}

function growthText({ growth }: RepositoryFacts): string | undefined {
  if (!growth) return undefined
  const { days, backupBytesPerDay, logicalBytesPerDay, walBytesPerDay, clusterBytesPerDay } = growth
  const parts = [
    `backups ${formatBytes(backupBytesPerDay)}`,
    ...(logicalBytesPerDay > 0 ? [`logical ${formatBytes(logicalBytesPerDay)}`] : []),
    `WAL ${formatBytes(walBytesPerDay)}`,
  ]
  const over = `in the last ${days <= 1 ? 'day' : `${Math.round(days)} days`}`
  const cluster =
    clusterBytesPerDay === null
      ? ''
      : `; the cluster by ${clusterBytesPerDay < 0 ? '-' : ''}${formatBytes(Math.abs(clusterBytesPerDay))}`
  return `by ${formatBytes(growth.storedBytesPerDay)} a day (${parts.join(', ')}) ${over}${cluster}`
}

function freeText({ freeBytes, fullInSeconds }: RepositoryFacts): string | undefined {
  if (freeBytes === null) return undefined
  return `${formatBytes(freeBytes)}${fullInSeconds === null ? '' : fullText(fullInSeconds)}`
}

/** What is years away says nothing by its number. */
function fullText(fullInSeconds: number): string {
  if (fullInSeconds > YEARS_SECONDS) return '; enough for years at this rate'
  return `; full in ${formatAge(1000 * fullInSeconds)}, unless something is removed`
}
const YEARS_SECONDS = 3 * 365 * 24 * 60 * 60

function verifiedText({ verified, newestBackup, newestLogical }: RepositoryFacts): string | undefined {
  const newest = [newestBackup, newestLogical]
    .flatMap((backup) => backup?.time ?? [])
    .toSorted()
    .at(-1)
  if (newest === undefined) return undefined
  const read = !verified || verified.ageSeconds === null ? 'never' : readText(verified, newest)
  const proven = verified?.lastProvenRestore
  const restored = proven
    ? `a restore proven ${ago(proven.ageSeconds)}, of ${proven.backup}`
    : 'no restore was proven'
  return `${read}; ${restored}`
}

/** @param newest when the newest backup was taken */
function readText(
  { ageSeconds, bytes, neverBytes, updatedAt }: NonNullable<RepositoryFacts['verified']>,
  newest: string,
): string {
  const what = neverBytes === 0 ? 'all' : `all but ${formatBytes(neverBytes)} of ${formatBytes(bytes)}`
  const then = newest > updatedAt ? `, but nothing that was stored after ${seconds(updatedAt)}` : ''
  return `${what} within ${formatAge(1000 * ageSeconds!)}${then}`
}
