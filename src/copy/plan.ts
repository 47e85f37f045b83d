import type { BackupSummary } from '../catalog/backup-record.ts'
import { brokenText, Chains } from '../catalog/chains.ts'
import { isLogicalId, type WalForm } from '../catalog/layout.ts'
import type { LogicalSummary } from '../catalog/logical-record.ts'
import type { ThinnedTimeline } from '../catalog/thinned-wal.ts'
import { segmentNumberOf } from '../catalog/wal-ranges.ts'
import { PgrecallError } from '../errors.ts'
import { numberOf, type WalFile } from '../postgres/wal-file.ts'
import { lackingWal } from './lacking-wal.ts'
import { type LogicalCopyVerdict, planLogicalCopy, type StoredLogical } from './plan-logical.ts'
import { broughtThin, notThinnedIn, type Timeline } from './plan-thinned.ts'

/** The backups of one cluster in one repository, oldest first. */
export interface StoredBackups extends StoredLogical {
  /** The physical ones. */
  backups: readonly BackupSummary[]
  /** What of the timelines tells which WAL was let go on purpose. */
  timelines?: readonly Timeline[]
}

/** A file of `pg_wal` as it lies in the source. */
export interface StoredWal {
  file: WalFile
  key: string
  form: WalForm
  bytes: number
}

/** The WAL of the two repositories, compared by name: an archived file never changes. */
export interface WalDifference {
  /** Names of all that the destination has. */
  held: ReadonlySet<string>
  /** What only the source has. */
  missing: readonly StoredWal[]
  /** Of each timeline the newest segment that both have. */
  common: readonly StoredWal[]
}

export interface CopyRequest {
  /** Which backups, to which all is added that they build upon; all when empty. `latest` is the newest physical one,
   * or the newest logical one where there is no other. */
  ids: readonly string[]
  backups: boolean
  wal: boolean
}

export type CopyVerdict =
  /** `neededBy`: of one that was not asked for, the one that builds upon it. */
  | { verdict: 'copy'; backup: BackupSummary; neededBy?: string }
  | { verdict: 'there'; backup: BackupSummary }
  /** It cannot be copied, and so the copy is not complete. */
  | { verdict: 'left'; backup: Pick<BackupSummary, 'id'>; reason: string }

/** What one run does, in this order. */
export type CopyStep =
  | { kind: 'wal'; files: readonly StoredWal[] }
  | { kind: 'backup'; backup: BackupSummary }
  | { kind: 'logical'; backup: LogicalSummary }

export interface CopyPlan {
  /** Of all physical backups that were asked for, of those that they build upon, and of all whose record is damaged. */
  backups: CopyVerdict[]
  logical: LogicalCopyVerdict[]
  /** All files of `pg_wal` that the steps copy. */
  wal: StoredWal[]
  /** Segments that both have and that must be alike, or the two are not one archive. */
  common: StoredWal[]
  /** What the destination is going to lack on purpose, since the source does. */
  thinned: ThinnedTimeline[]
  steps: CopyStep[]
  warnings: string[]
}

/**
 * What is to be copied, and in which order: histories, then WAL from the oldest on, and each backup as soon as its own WAL is
 * there, and what it builds upon; last the logical ones, which need nothing. So whatever is listed in the destination can be restored from it, at every moment.
 * @throws PgrecallError `absent` or `damaged` for a backup that is asked for by its id, `conflict` when the two have different
 *   backups of one id
 */
export function planCopy(
  source: StoredBackups,
  destination: StoredBackups,
  { held, missing, common }: WalDifference,
  segmentBytes: number,
  request: CopyRequest,
): CopyPlan {
  const available = request.wal ? new Set([...held, ...missing.map(({ file }) => file.name)]) : held
  // What only the destination has is built upon there.
  const chains = new Chains([...destination.backups, ...source.backups])
  const ids = idsIn(request, source)
  const physicalIds = ids.filter((id) => !isLogicalId(id))
  const isAsked = request.backups && (ids.length === 0 || physicalIds.length > 0)
  const asked = isAsked ? askedFor(source, physicalIds) : []
  const logical = request.backups ? planLogicalCopy(source, destination, ids) : []
  const needed = neededBy(asked, source, chains)
  const verdicts = [...asked, ...needed.keys()]
    .toSorted((a, b) => (a.id < b.id ? -1 : 1))
    .map((each) => verdictOn(each, source, destination, request, available, segmentBytes))
  const backups = withChains(verdicts, needed, chains)
  const copied = backups.flatMap((each) => (each.verdict === 'copy' ? [each.backup] : []))
  const from = oldestStart([...destination.backups, ...copied], segmentBytes)
  const isThere = notThinnedIn(destination, [...destination.backups, ...copied], segmentBytes)
  const wal =
    request.wal && from !== undefined
      ? missing
          .filter((wal) => isWanted(wal, from, segmentBytes) && isThere(wal.file))
          .toSorted(inOrder(segmentBytes))
      : []
  return {
    backups,
    logical,
    wal,
    common: common.filter(({ file }) => wal.some((missing) => missing.file.timeline === file.timeline)),
    thinned: request.wal ? broughtThin(source, copied, { ...destination, held }, segmentBytes) : [],
    steps: [
      ...stepsOf(copied, chains, wal, segmentBytes),
      ...logical.flatMap(({ verdict, backup }): CopyStep[] =>
        verdict === 'copy' ? [{ kind: 'logical', backup }] : [],
      ),
    ],
    warnings: [
      ...warningsOf(backups, available, segmentBytes),
      ...logical.flatMap((each) => (each.verdict === 'left' ? [leftText(each)] : [])),
    ],
  }
}

/** @returns the ids that are asked for, with that of the newest logical backup where `latest` can be no other */
function idsIn({ ids }: CopyRequest, { backups, logical }: StoredBackups): string[] {
  const newest = backups.length === 0 ? logical.at(-1)?.id : undefined
  return ids.map((id) => (id === 'latest' ? (newest ?? id) : id))
}

function askedFor({ repository, backups, damaged }: StoredBackups, ids: readonly string[]) {
  if (ids.length === 0) return [...backups, ...damaged]
  const chosen = ids.map((id) => {
    const found = id === 'latest' ? backups.at(-1) : backups.find((backup) => backup.id === id)
    if (found) return found
    const unreadable = damaged.find((backup) => backup.id === id)
    if (unreadable) throw new PgrecallError('damaged', unreadable.reason)
    throw new PgrecallError(
      'absent',
      id === 'latest'
        ? `there is no backup in repository "${repository}"`
        : `there is no backup "${id}" in repository "${repository}"`,
      { hint: '"pgrecall list" shows the backups' },
    )
  })
  return [...new Set(chosen)]
}

/** What the source has of that upon which the backups build, and which of them needs it. */
function neededBy(
  asked: readonly { id: string }[],
  { backups }: StoredBackups,
  chains: Chains<BackupSummary>,
): Map<BackupSummary, string> {
  const [held, known] = [new Set<object>(backups), new Set<object>(asked)]
  const needed = new Map<BackupSummary, string>()
  for (const backup of backups.filter((candidate) => known.has(candidate)))
    for (const below of chains.ancestorsOf(backup))
      if (held.has(below) && !known.has(below)) needed.set(below, backup.id)
  return needed
}

/** No backup is copied without what it builds upon. */
function withChains(
  verdicts: readonly CopyVerdict[],
  needed: ReadonlyMap<BackupSummary, string>,
  chains: Chains<BackupSummary>,
): CopyVerdict[] {
  const left = new Set(verdicts.flatMap(({ verdict, backup }) => (verdict === 'left' ? [backup.id] : [])))
  return verdicts.map((each) => {
    if (each.verdict !== 'copy') return each
    const { backup } = each
    const missing = chains.missingOf(backup)
    const below = chains.ancestorsOf(backup).find(({ id }) => left.has(id))
    if (missing !== undefined) return { verdict: 'left', backup, reason: `it ${brokenText(missing)}` }
    if (below)
      return { verdict: 'left', backup, reason: `it builds upon ${below.id}, which cannot be copied` }
    const needing = needed.get(backup)
    return needing === undefined ? each : { ...each, neededBy: needing }
  })
}

function verdictOn(
  asked: BackupSummary | StoredBackups['damaged'][number],
  source: StoredBackups,
  destination: StoredBackups,
  request: CopyRequest,
  available: ReadonlySet<string>,
  segmentBytes: number,
): CopyVerdict {
  if ('reason' in asked) return { verdict: 'left', backup: asked, reason: asked.reason }
  const there = destination.backups.find(({ id }) => id === asked.id)
  if (there && !isSameBackup(there, asked)) {
    throw new PgrecallError(
      'conflict',
      `backup ${asked.id} in repository "${destination.repository}" is not the one in "${source.repository}"; nothing was overwritten`,
      { hint: 'two servers write backups of this cluster: give one of them a cluster name of its own' },
    )
  }
  if (there) return { verdict: 'there', backup: asked }
  const unreadable = destination.damaged.find(({ id }) => id === asked.id)
  if (unreadable) return { verdict: 'left', backup: asked, reason: unreadable.reason }
  const lacks = request.wal ? lackingWal(asked, available, segmentBytes) : undefined
  return lacks === undefined
    ? { verdict: 'copy', backup: asked }
    : {
        verdict: 'left',
        backup: asked,
        reason: `${lacks}, which it needs, is archived in neither repository`,
      }
}

/** A backup was stored in several repositories at once, or it is another one. */
function isSameBackup(a: BackupSummary, b: BackupSummary): boolean {
  return a.startedAt === b.startedAt && a.start.lsn === b.start.lsn && a.stop.lsn === b.stop.lsn
}

function oldestStart(backups: readonly BackupSummary[], segmentBytes: number): bigint | undefined {
  return backups
    .map(({ start }) => segmentNumberOf(start.walFile, segmentBytes))
    .reduce<bigint | undefined>(
      (oldest, start) => (oldest === undefined || start < oldest ? start : oldest),
      undefined,
    )
}

/** All histories: without them nothing tells how the timelines hang together. */
function isWanted({ file }: StoredWal, from: bigint, segmentBytes: number): boolean {
  return file.kind === 'history' || numberOf(file, segmentBytes) >= from
}

function inOrder(segmentBytes: number) {
  const rank = ({ file }: StoredWal) => (file.kind === 'history' ? -1n : numberOf(file, segmentBytes))
  return (a: StoredWal, b: StoredWal) => {
    const [first, second] = [rank(a), rank(b)]
    if (first !== second) return first < second ? -1 : 1
    return a.file.name < b.file.name ? -1 : 1
  }
}

function stepsOf(
  copied: readonly BackupSummary[],
  chains: Chains<BackupSummary>,
  wal: readonly StoredWal[],
  segmentBytes: number,
): CopyStep[] {
  const steps: CopyStep[] = []
  let done = 0
  const copyUpTo = (end: number) => {
    if (end > done) steps.push({ kind: 'wal', files: wal.slice(done, end) })
    done = Math.max(done, end)
  }
  const endOf = ({ stop }: BackupSummary) => segmentNumberOf(stop.walFile, segmentBytes)
  const heightOf = (backup: BackupSummary) => chains.ancestorsOf(backup).length
  // Nothing ends before what it builds upon, but maybe in the same segment.
  const parentsFirst = copied.toSorted((a, b) => Number(endOf(a) - endOf(b)) || heightOf(a) - heightOf(b))
  for (const backup of parentsFirst) {
    const behind = wal.findIndex(
      ({ file }) => file.kind !== 'history' && numberOf(file, segmentBytes) > endOf(backup),
    )
    copyUpTo(behind < 0 ? wal.length : behind)
    steps.push({ kind: 'backup', backup })
  }
  copyUpTo(wal.length)
  return steps
}

const leftText = ({ backup: { id }, reason }: { backup: { id: string }; reason: string }) =>
  `backup ${id} is not copied: ${reason}`

function warningsOf(
  verdicts: readonly CopyVerdict[],
  available: ReadonlySet<string>,
  segmentBytes: number,
): string[] {
  return verdicts.flatMap((each) => {
    if (each.verdict === 'left') return [leftText(each)]
    const lacks = each.verdict === 'copy' ? lackingWal(each.backup, available, segmentBytes) : undefined
    if (lacks === undefined) return []
    return [
      `backup ${each.backup.id} cannot be restored from there until its WAL is copied too: ${lacks} is not there`,
    ]
  })
}
