import { formatAge, formatBytes, formatCount, formatDuration, formatRate } from '../cli/units.ts'
import type { Finding } from '../status/facts.ts'
import { mostLost } from '../status/rpo.ts'
import { Clock } from './clock.ts'
import type { ClusterReport } from './facts.ts'
import { html, type Markup } from './markup.ts'
import { type Verdict, verdictOf } from './verdict.ts'

/** So many of what is wrong stand in the summary; all stand below. */
const MOST = 3

/** Its shape says it as well as its colour; the word beside it is what is read out. */
export const sign = (severity: Finding['severity']): Markup =>
  html`<svg class="sign ${severity}" aria-hidden="true" viewBox="0 0 24 24" width="24" height="24"><use href="#sign-${severity}"/></svg>`

/** What one look has to tell of a cluster: whether, to what moments, how fast, and what is wrong. */
export function summaryCard(cluster: ClusterReport, now: Date, id: string): Markup {
  const verdict = verdictOf(cluster)
  const answer = answerOf(verdict)
  const lost = lossText(cluster)
  const clock = new Clock(cluster.timeZone)
  return html`<article class="card ${answer.severity}" aria-labelledby="${id}-card">
<header><h3 id="${id}-card"><a href="#${id}">${cluster.cluster}</a></h3></header>
<dl>
<div><dt>Can I recover?</dt><dd class="answer">${sign(answer.severity)}<span>${answer.text}</span></dd></div>
<div><dt>To which moments?</dt><dd>${momentsText(verdict, clock, now)}${lost && html`<p class="soft">${lost}</p>`}</dd></div>
<div><dt>How long would it take?</dt><dd>${restoreText(cluster, verdict)}</dd></div>
<div><dt>What is wrong?</dt><dd>${wrongText(verdict, id)}</dd></div>
</dl>
</article>`
}

/** A failure, as of the archive, does not undo what can be recovered; the octagon is for when nothing can be. */
function answerOf({ recoverable, severity, wrong }: Verdict): {
  text: string
  severity: Finding['severity']
} {
  if (recoverable === 'nothing') return { text: 'No, nothing can be recovered', severity: 'fail' }
  if (recoverable === 'dumps') return { text: 'Only what was dumped', severity: 'warn' }
  if (severity === 'ok') return { text: 'Yes, and all is well', severity }
  const counts = (['fail', 'warn'] as const).flatMap((level) => {
    const count = wrong.filter((finding) => finding.severity === level).length
    return count > 0 ? [formatCount(count, level === 'fail' ? 'failure' : 'warning')] : []
  })
  return { text: `Yes, but ${counts.join(' and ')}`, severity: 'warn' }
}

function momentsText({ newest, others, recoverable }: Verdict, clock: Clock, now: Date): Markup {
  if (!newest) return html`${recoverable === 'dumps' ? 'To the moments of its logical backups' : 'To none'}`
  const { from, to } = newest.window
  const [begin, end] = [Date.parse(from.time), Date.parse(to.time)]
  return html`<p class="moments">From <time datetime="${from.time}">${clock.second(Math.ceil(begin / 1000) * 1000)}</time><br>to <time datetime="${to.time}">${clock.second(end)}</time></p>
<p class="soft">${to.isExact ? 'The newest is' : 'The newest is at most'} ${formatAge(now.getTime() - end)} old${clock.offset(end) !== 0 && `; in UTC ${utc(begin)} to ${utc(end)}`}${others > 0 && `; and ${formatCount(others, 'other stretch').replace('stretchs', 'stretches')}, see below`}</p>`
}

const utc = (at: number) => new Date(at).toISOString().slice(0, 16).replace('T', ' ')

/** From where the newest moments are, by what restores took, or else backups. */
function restoreText({ repositories }: ClusterReport, { newest }: Verdict): Markup {
  const known = repositories.filter(({ facts }) => !newest || facts.repository === newest.repository)
  const estimate = known.flatMap(({ facts }) => facts.restore ?? [])[0]
  if (!estimate) return html`${repositories.some(({ facts }) => facts.newestBackup) ? 'Not known yet' : '–'}`
  const { copy, replay, seconds } = estimate
  const measured = formatCount(copy.samples, copy.basis === 'restores' ? 'restore' : 'backup')
  const basis =
    copy.basis === 'restores' ? `as ${measured} did` : `as ${measured} did; no restore was measured yet`
  return html`<p class="moments">About ${formatDuration(1000 * seconds)}</p>
<p class="soft">${formatBytes(copy.bytes)} at ${formatRate(copy.bytesPerSecond)}, ${basis}${replay !== null && replay.bytes > 0 && `; and ${formatBytes(replay.bytes)} of WAL to replay, at an assumed ${formatRate(replay.assumedBytesPerSecond)}`}</p>`
}

/** What is not in any repository yet is lost with the host. */
function lossText({ repositories }: ClusterReport): string | false {
  const losses = repositories
    .flatMap(({ facts }) => facts.rpo ?? [])
    .toSorted((a, b) => a.seconds - b.seconds)
  const [least] = losses
  if (!least) return false
  return least.since === null
    ? 'If the host died now, nothing would be lost'
    : `If the host died now, ${mostLost(least)} would be lost`
}

function wrongText({ wrong }: Verdict, id: string): Markup {
  if (wrong.length === 0) return html`Nothing that was found`
  const more = wrong.length - MOST
  return html`<ul class="wrong">${wrong.slice(0, MOST).map(({ severity, text }) => html`<li class="${severity}">${sign(severity)}<span><b>${severity}</b> ${text}</span></li>`)}</ul>${more > 0 && html`<p><a href="#${id}-findings">and ${more} more</a></p>`}`
}
