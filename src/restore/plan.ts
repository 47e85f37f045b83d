import type { BackupRecord, BackupSummary } from '../catalog/backup-record.ts'
import { type DamagedObject, damagedText, REPAIR_TEXT } from '../catalog/known-damage.ts'
import { PgrecallError } from '../errors.ts'
import { formatLsn, type Lsn, lsn } from '../postgres/lsn.ts'
import {
  plainStartSettings,
  type RecoverySettings,
  type RecoveryTarget,
  recoverySettings,
} from '../postgres/recovery-settings.ts'
import type { TimelineHistory } from '../postgres/timeline-history.ts'
import { segmentName } from '../postgres/wal-file.ts'
import type { PartialRestore } from './databases.ts'
import type { Evidence, RestoreQuestion } from './question.ts'
import { requireReachable } from './reachable.ts'
import { describeTarget, formatMoment, momentOf, recoveryTargetOf, type Target } from './target.ts'
import { isOnPath, segmentsUntil, type WalLeg } from './timeline-path.ts'

/** What a restore is going to do: computed first, shown with `--dry-run`, then carried out as it is. */
export interface RestorePlan {
  repository: string
  backup: BackupRecord
  /** What the backup builds upon, oldest first; the last one is the backup itself, which often is the only one. */
  chain: BackupRecord[]
  /** Bytes of the cluster's files. */
  clusterBytes: number
  dataDirectory: string
  /** Whether the data directory is not removed first, but brought to the state of the backup. */
  delta: boolean
  /** Present when some databases are not brought back. */
  partial?: PartialRestore
  tablespaces: { oid: string; name: string; from: string; to: string }[]
  target: { kind: Target['kind']; text: string; exclusive: boolean; action: string }
  timeline: number
  standby: boolean
  /** False for a copy that was shut down and starts as it is. */
  recovers: boolean
  wal: { segments: number; legs: { timeline: number; first: string; last: string }[] }
  /** The last moment that the restored cluster will hold, where it is known. */
  recoversTo: string | undefined
  settings: RecoverySettings
  /** What is known to be damaged of the chain: then the restore fails, unless that was healed since. */
  damage?: DamagedObject
  /** Ids of other backups that lead to the target, the newest first; a few. */
  instead: string[]
  warnings: string[]
}

/** The backups that lie on the way to a timeline, oldest first. */
export function onTheWay(backups: readonly BackupSummary[], path: TimelineHistory): BackupSummary[] {
  return backups.filter((backup) => isOnPath(path, backup))
}

/** Those of the backups that end before the target, oldest first. @param location as of `chooseBackup` */
export function backupsBefore(
  question: RestoreQuestion,
  all: readonly BackupSummary[],
  path: TimelineHistory,
  location?: Lsn,
): BackupSummary[] {
  return onTheWay(all, path).filter((backup) => endsBefore(backup, question, location))
}

/**
 * The newest backup that ends before the target, or the one that was asked for.
 * @param location the target's place in the WAL, for targets whose place only the WAL tells
 * @throws PgrecallError `absent` or `unreachable`, with the nearest moment that can be had
 */
export function chooseBackup(
  question: RestoreQuestion,
  all: readonly BackupSummary[],
  path: TimelineHistory,
  location?: Lsn,
): BackupSummary {
  const usable = onTheWay(all, path)
  if (question.backup !== undefined) {
    const asked = all.find((backup) => backup.id === question.backup)
    if (!asked) {
      throw new PgrecallError('absent', `there is no backup ${question.backup}`, {
        hint: '"pgrecall list" shows the backups that there are',
      })
    }
    requireOnPath(asked, usable, path)
    if (!endsBefore(asked, question, location)) throw tooEarly(question, asked, usable, location)
    return asked
  }
  const fitting = backupsBefore(question, all, path, location).at(-1)
  if (fitting) return fitting
  const oldest = usable[0]
  if (oldest) throw tooEarly(question, oldest, usable, location)
  throw new PgrecallError('absent', 'there is no backup on the way to that timeline', {
    hint: '"pgrecall list" shows the backups with their timelines; see also --target-timeline',
  })
}

function requireOnPath(asked: BackupSummary, usable: readonly BackupSummary[], path: TimelineHistory): void {
  if (usable.includes(asked)) return
  const goal = path.at(-1)!.timeline
  throw new PgrecallError(
    'unreachable',
    `backup ${asked.id} is on timeline ${asked.timeline}, from which no recovery leads to timeline ${goal}`,
    { hint: `use --target-timeline current to stay on timeline ${asked.timeline}` },
  )
}

function endsBefore(backup: BackupSummary, { target }: RestoreQuestion, location: Lsn | undefined): boolean {
  switch (target.kind) {
    case 'time':
      return momentOf(backup.stop.time) <= target.micros
    case 'lsn':
      return lsn(backup.stop.lsn) <= target.lsn
    case 'xid':
    case 'name':
      return location === undefined || lsn(backup.stop.lsn) <= location
    default:
      return true
  }
}

function tooEarly(
  question: RestoreQuestion,
  backup: BackupSummary,
  usable: readonly BackupSummary[],
  location: Lsn | undefined,
): PgrecallError {
  const asked = question.backup !== undefined
  const earliest = usable.find((candidate) => endsBefore(candidate, question, location))
  const end = `${formatMoment(momentOf(backup.stop.time))} (LSN ${backup.stop.lsn})`
  return new PgrecallError(
    'unreachable',
    `${describeTarget(question.target)} lies before the end of ${asked ? 'backup' : 'the oldest backup that leads there,'} ${backup.id}: ${end}`,
    {
      hint:
        asked && earliest
          ? 'leave the id out to let pgrecall choose an earlier backup'
          : `the earliest moment that can be recovered is ${end}`,
    },
  )
}

/**
 * Makes the plan, or says why the target cannot be reached.
 * @throws PgrecallError `unreachable` with the nearest recoverable moment as the hint
 */
export function makePlan(input: {
  question: RestoreQuestion
  repository: string
  /** Oldest first; the last one is the backup that was chosen. */
  chain: BackupRecord[]
  path: TimelineHistory
  evidence: Evidence
  dataDirectory: string
  /** Old location to new one. */
  tablespaceMap: ReadonlyMap<string, string>
  delta: boolean
  partial: PartialRestore | undefined
  restoreCommand: string
  damage?: DamagedObject | undefined
  instead?: readonly string[]
}): RestorePlan {
  const { question, chain, evidence, path, partial, damage, instead = [] } = input
  const backup = chain.at(-1)!
  const { target } = question
  requireReachable(question, backup, evidence)
  const segmentBytes = backup.walSegmentBytes
  const end =
    target.kind === 'immediate' ? lsn(backup.stop.lsn) : target.kind === 'lsn' ? target.lsn : evidence.found
  const recovers = !startsByItself(question, backup, evidence)
  const warnings = [
    ...(damage ? [damageWarning(backup, damage, instead)] : []),
    ...backup.outsideFiles.map(
      (file) => `${file} was outside the data directory and is not part of the backup`,
    ),
  ]
  return {
    repository: input.repository,
    backup,
    chain,
    clusterBytes: backup.clusterBytes ?? backup.dataBytes,
    dataDirectory: input.dataDirectory,
    delta: input.delta,
    ...(partial && { partial }),
    tablespaces: mapTablespaces(backup, input.tablespaceMap),
    target: {
      kind: target.kind,
      text: describeTarget(target),
      exclusive: question.exclusive,
      action: target.kind === 'end' ? 'promote' : question.action,
    },
    timeline: path.at(-1)!.timeline,
    standby: question.standby,
    recovers,
    wal: {
      segments: recovers ? segmentsUntil(evidence.reach.legs, end, segmentBytes) : 0,
      legs: recovers ? evidence.reach.legs.map((leg) => namesOf(leg, segmentBytes)) : [],
    },
    recoversTo: recoversTo(target, backup, evidence),
    settings: recovers
      ? recoverySettings({
          majorVersion: Math.floor(backup.postgres.version / 10_000),
          restoreCommand: input.restoreCommand,
          target: placedTarget(target, evidence),
          exclusive: question.exclusive && target.kind !== 'name',
          action: question.action,
          timeline: question.timeline,
          standby: question.standby,
          endsBeforeHole: evidence.reach.gap !== undefined && !question.standby,
          archiveMode: question.archiveMode,
        })
      : plainStartSettings(question.archiveMode),
    ...(damage && { damage }),
    instead: [...instead],
    warnings,
  }
}

function damageWarning({ id }: BackupRecord, damage: DamagedObject, instead: readonly string[]): string {
  return `backup ${id} ${damagedText(damage)}, so this restore will fail halfway unless that was healed; ${REPAIR_TEXT}; ${insteadText(instead)}`
}

/** What a person can restore from in place of a damaged backup. @param instead ids, the newest first */
export function insteadText(instead: readonly string[]): string {
  return instead.length > 0
    ? `instead can serve ${instead.join(', ')}`
    : 'no other backup here leads to the same target'
}

/** A cluster that was shut down needs a recovery only to go on from there, and for that archived WAL. */
function startsByItself(
  { target, standby }: RestoreQuestion,
  backup: BackupRecord,
  { reach }: Evidence,
): boolean {
  if (backup.method !== 'cold' || standby) return false
  return target.kind === 'immediate' || (target.kind === 'end' && reach.legs.length === 0)
}

const namesOf = ({ timeline, first, last }: WalLeg, segmentBytes: number) => ({
  timeline,
  first: segmentName(timeline, first, segmentBytes),
  last: segmentName(timeline, last, segmentBytes),
})

function recoversTo(target: Target, backup: BackupRecord, evidence: Evidence): string | undefined {
  if (target.kind === 'time') return formatMoment(target.micros)
  if (target.kind === 'immediate') return formatMoment(momentOf(backup.stop.time))
  if (target.kind === 'end') return formatMoment(evidence.lastMoment ?? momentOf(backup.stop.time))
  return undefined
}

/**
 * A restore point's name can occur more than once, and the server stops at the first: it is told the place of the one
 * that the plan is about.
 */
function placedTarget(target: Target, { found }: Evidence): RecoveryTarget {
  return target.kind === 'name' && found !== undefined
    ? { kind: 'lsn', lsn: formatLsn(found) }
    : recoveryTargetOf(target)
}

/** Each tablespace's new place: what `--tablespace OLD=NEW` says, by location, name or oid. */
function mapTablespaces(backup: BackupRecord, map: ReadonlyMap<string, string>): RestorePlan['tablespaces'] {
  const known = new Set(backup.tablespaces.flatMap(({ oid, name, location }) => [oid, name, location]))
  for (const old of map.keys()) {
    if (known.has(old)) continue
    const list = backup.tablespaces.map(({ name, location }) => `${name} at ${location}`).join(', ') || 'none'
    throw new PgrecallError(
      'usage',
      `--tablespace "${old}": the backup has no such tablespace (it has ${list})`,
      {
        hint: 'name a tablespace by its location, its name or its oid',
      },
    )
  }
  return backup.tablespaces.map(({ oid, name, location }) => ({
    oid,
    name,
    from: location,
    to: map.get(location) ?? map.get(name) ?? map.get(oid) ?? location,
  }))
}
