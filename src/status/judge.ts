import { formatAge, formatBytes, formatCount } from '../cli/units.ts'
import type { Finding, Gap, RepositoryFacts, ServerFacts } from './facts.ts'
import { judgeBackups } from './judge-backups.ts'
import { judgeLimits } from './judge-limits.ts'
import { SETTLING_SECONDS, severityAbove, severityBelow, THRESHOLDS, type Thresholds } from './thresholds.ts'

/**
 * What the server and its `pg_wal` mean. Pure, as all of this file.
 * @param storedAgo how long nothing was stored in any repository, seconds; undefined where nothing is
 */
export function judgeServer(
  server: ServerFacts,
  clusterIdentifier: string | undefined,
  storedAgo?: number,
  limits: Thresholds = THRESHOLDS,
): Finding[] {
  const findings: Finding[] = []
  const add = (severity: Finding['severity'], subject: string, text: string, hint?: string) =>
    findings.push({ severity, subject, text, ...(hint && { hint }) })
  if (!server.reachable) {
    add('warn', 'server', `the server cannot be asked: ${server.error}`)
  } else if (clusterIdentifier !== undefined && server.systemIdentifier !== clusterIdentifier) {
    add(
      'fail',
      'server',
      `the server is the PostgreSQL cluster ${server.systemIdentifier}, and what is stored belongs to ${clusterIdentifier}`,
      'two clusters cannot share a name: give this one a name of its own under "clusters"',
    )
  }
  findings.push(...judgeReceiving(server, storedAgo, limits))
  if (server.inRecovery)
    add('ok', 'server', 'the server is a standby; whether its primary archives is seen in the repository')
  else findings.push(...judgeArchiving(server, limits), ...judgeDisk(server, limits))
  return findings
}

/** The server knows whether `wal-receive` is connected; whether it comes to store anything, the repository tells. */
function judgeReceiving(
  { slot }: ServerFacts,
  storedAgo: number | undefined,
  { archiveLate }: Thresholds,
): Finding[] {
  const subject = 'receiving'
  if (!slot) return []
  if (slot.active)
    return [
      { severity: 'ok', subject, text: `WAL is received as it is written, through slot "${slot.name}"` },
    ]
  const isLong = severityAbove(storedAgo ?? 0, archiveLate) === 'fail'
  const since = storedAgo === undefined ? '' : `; the last WAL was stored ${formatAge(1000 * storedAgo)} ago`
  return [
    {
      severity: isLong ? 'fail' : 'warn',
      subject,
      text: `wal-receive does not run: nobody receives through slot "${slot.name}", for which the server keeps its WAL${since}`,
      hint: 'start pgrecall wal-receive; or give it up: pgrecall wal-receive --drop-slot',
    },
  ]
}

function judgeArchiving(server: ServerFacts, { archiveLate }: Thresholds): Finding[] {
  const { waiting, archiver, archiveMode, slot } = server
  const subject = 'archiving'
  // What is received needs no archiver, and whether it is received is told.
  if (archiveMode === 'off' && slot) return []
  if (archiveMode === 'off')
    return [
      {
        severity: 'warn',
        subject,
        text: 'archive_mode is off, so the server archives nothing',
        hint: 'unless wal-receive runs, only backups with --standalone can be recovered, and only to their end',
      },
    ]
  const wait = waitingText(waiting)
  if (isFailing(server)) {
    const { file, time } = archiver!.lastFailed!
    const hint = 'look into the server\'s log for what archive_command said; "pgrecall check" tries it'
    return [
      { severity: 'fail', subject, text: `archiving fails, last at ${time} with ${file}; ${wait}`, hint },
    ]
  }
  if (!waiting) return server.reachable ? [{ severity: 'ok', subject, text: wait }] : []
  const severity = severityAbove(waiting.oldest?.ageSeconds ?? 0, archiveLate)
  if (severity !== 'ok')
    return [{ severity, subject, text: `archiving is behind: ${wait}`, hint: 'pgrecall check' }]
  return [{ severity, subject, text: server.reachable ? `archiving keeps up; ${wait}` : wait }]
}

/** The archiver tries again and again; what counts is what happened last. */
function isFailing({ archiver }: Pick<ServerFacts, 'archiver'>): boolean {
  const [failed, archived] = [archiver?.lastFailed?.time, archiver?.lastArchived?.time]
  return failed !== undefined && (archived === undefined || failed > archived)
}

function waitingText(waiting: ServerFacts['waiting']): string {
  if (!waiting)
    return 'how many segments wait is not known (it takes the role pg_monitor, or the data directory on this host)'
  if (!waiting.oldest) return 'no segment waits'
  const { segments, oldest } = waiting
  return `${formatCount(segments, 'segment')} ${segments === 1 ? 'waits' : 'wait'}, the oldest for ${formatAge(1000 * oldest.ageSeconds)}`
}

const isBehind = (server: Pick<ServerFacts, 'archiver' | 'waiting'>, { archiveLate }: Thresholds) =>
  isFailing(server) || severityAbove(server.waiting?.oldest?.ageSeconds ?? 0, archiveLate) !== 'ok'

/** When `pg_wal` fills its disk if nothing is archived any more; null while archiving keeps up, or it is not known. */
export function secondsUntilFull(
  server: Omit<ServerFacts, 'fullInSeconds'>,
  limits: Thresholds = THRESHOLDS,
): number | null {
  const { walDisk, walBytesPerSecond } = server
  if (!isBehind(server, limits) || !walDisk || !walBytesPerSecond) return null
  return Math.round(walDisk.freeBytes / walBytesPerSecond)
}

function judgeDisk(server: ServerFacts, limits: Thresholds): Finding[] {
  const { walDisk, fullInSeconds } = server
  if (!walDisk) return []
  const subject = 'pg_wal'
  const free = `${formatBytes(walDisk.freeBytes)} are free on the disk of pg_wal`
  if (fullInSeconds === null && isBehind(server, limits))
    return [{ severity: 'warn', subject, text: `${free}; how fast WAL fills it is not known` }]
  if (fullInSeconds === null)
    return [{ severity: 'ok', subject, text: `${free}; it does not fill at this rate` }]
  const severity = severityBelow(fullInSeconds, limits.walDiskFull)
  const hint = 'the server stops when pg_wal cannot grow: mend archiving first'
  return [
    {
      severity,
      subject,
      text: `${free}; at this rate WAL fills it in ${formatAge(1000 * fullInSeconds)}`,
      ...(severity !== 'ok' && { hint }),
    },
  ]
}

/** What a repository holds, and lacks. */
export function judgeRepository(
  facts: RepositoryFacts,
  server: ServerFacts,
  limits: Thresholds = THRESHOLDS,
): Finding[] {
  if (facts.error !== null) return [{ severity: 'fail', subject: 'repository', text: facts.error }]
  return [
    ...judgeBackups(facts, limits),
    ...judgeHistories(facts),
    ...judgeGaps(facts),
    ...judgeThinned(facts),
    ...judgeEnd(facts, server),
    ...facts.missing.map(
      ({ has, first, last, segments }): Finding => ({
        severity: 'warn',
        subject: 'spread',
        text: `${formatCount(segments, 'segment')} that "${has}" has ${areWord(segments)} missing here: ${stretch(first, last)}`,
      }),
    ),
    ...judgeLimits(facts, limits),
  ]
}

/** A restore goes to the newest timeline that there is, and without its history it goes nowhere. */
function judgeHistories({ lostHistories, currentTimeline }: RepositoryFacts): Finding[] {
  return lostHistories.map(({ timeline, file, isDamaged }) => ({
    severity: timeline >= (currentTimeline ?? 0) ? 'fail' : 'warn',
    subject: 'WAL',
    text: `${file} ${isDamaged ? 'cannot be read' : 'is missing'}, so no recovery leads to timeline ${timeline}`,
    hint: 'take it from another repository, or from pg_wal of a server on that timeline',
  }))
}

/** A hole is a failure where it cuts the way of a kept backup to now. */
function judgeGaps({ gaps, currentTimeline, droppedAtEnd, unusable }: RepositoryFacts): Finding[] {
  const subject = 'WAL'
  const findings = gaps.map((gap): Finding => {
    const what =
      gap.last === null
        ? `WAL from ${gap.first} on is missing`
        : `${stretch(gap.first, gap.last)} ${areWord(gap.segments!)} missing (${formatCount(gap.segments!, 'segment')})`
    const why = gap.dropped
      .map(({ since, reason }) => `, given up at ${momentText(since)}: ${reason}`)
      .join('')
    const cut = gap.cuts.find(({ timeline }) => timeline === currentTimeline) ?? gap.cuts[0]
    if (!cut) return { severity: 'ok', subject, text: `${what}${why}; ${withoutCut(gap, unusable)}` }
    const isSettling = gap.ageSeconds !== null && gap.ageSeconds < SETTLING_SECONDS
    if (isSettling && gap.dropped.length === 0)
      return {
        severity: 'warn',
        subject,
        text: `${what}; ${gap.segments === 1 ? 'it' : 'they'} may be on the way`,
      }
    const until = cut.lostUntil === null ? 'on' : `to ${momentText(cut.lostUntil)}`
    const whose =
      cut.backups.length === 1
        ? `backup ${cut.backups[0]}`
        : `${cut.backups.length} backups, ${cut.backups[0]} to ${cut.backups.at(-1)},`
    const cost = `${whose} cannot be recovered past it, and from ${momentText(cut.lostFrom)} ${until} there is no way back`
    return {
      severity: cut.timeline === currentTimeline ? 'fail' : 'warn',
      subject,
      text: `${what}${why}; ${cost}`,
      ...(cut.lostUntil === null && { hint: 'take a backup now: pgrecall backup' }),
    }
  })
  const dropped = droppedAtEnd.map(
    ({ first, last, segments, since, reason }): Finding => ({
      severity: 'fail',
      subject,
      text: `${stretch(first, last)} (${formatCount(segments, 'segment')}) ${areWord(segments)} lost, given up at ${momentText(since)}: ${reason}; nothing later can be recovered`,
      hint: 'once archiving works again, take a backup: pgrecall backup',
    }),
  )
  return [...findings, ...dropped]
}

/** WAL that was let go on purpose is no fault, and costs what was meant to be given up. */
function judgeThinned({ windows }: RepositoryFacts): Finding[] {
  const backups = windows.flatMap((window) => (window.isThinned ? window.backups : []))
  if (backups.length === 0) return []
  const whose = backups.length === 1 ? `backup ${backups[0]}` : `${backups.length} older backups`
  const text = `retention has let WAL go, by its rule "wal": ${whose} can be restored to ${backups.length === 1 ? 'its end' : 'their ends'} only`
  return [{ severity: 'ok', subject: 'WAL', text }]
}

/** Why a gap ends no window. */
function withoutCut({ first, last, isBehindAnother }: Gap, unusable: RepositoryFacts['unusable']): string {
  const lacking = unusable.find(({ missing }) => first <= missing && missing <= (last ?? first))
  if (lacking) return `backup ${lacking.id} needs ${first === last ? 'it' : 'them'}`
  return isBehindAnother ? 'an earlier gap ends the way already' : 'no backup needs it'
}

/** The server takes a segment for archived, and it is not here: its archive_command stores elsewhere, or not at all. */
function judgeEnd({ archived }: RepositoryFacts, { waiting }: ServerFacts): Finding[] {
  const behind = archived?.behindSegments
  // What was stored just now is followed by more while this is asked.
  const isMoving = archived !== null && archived.ageSeconds < SETTLING_SECONDS
  if (!behind || behind < 2 || isMoving || waiting?.segments) return []
  return [
    {
      severity: 'fail',
      subject: 'WAL',
      text: `the server is ${formatCount(behind, 'segment')} ahead of ${archived!.lastSegment}, the last one stored here`,
      hint: 'is this the repository that archive_command stores into? "pgrecall check" tells',
    },
  ]
}

const stretch = (first: string, last: string) => (first === last ? first : `${first} to ${last}`)
const areWord = (count: number) => (count === 1 ? 'is' : 'are')
const momentText = (iso: string) => iso.replace(/\.\d+Z$/, 'Z')
