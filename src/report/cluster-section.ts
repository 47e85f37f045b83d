import { formatAge, formatBytes, formatCount } from '../cli/units.ts'
import type { Finding, RepositoryFacts } from '../status/facts.ts'
import { type Range, rangeSince } from './axis.ts'
import { Clock } from './clock.ts'
import { drawForecast, forecastTable, rhythmText } from './draw-forecast.ts'
import { drawGrowth, growthTable } from './draw-growth.ts'
import { drawHistory, historyLegend } from './draw-history.ts'
import type { ClusterReport, RepositoryReport } from './facts.ts'
import type { Forecast } from './forecast.ts'
import { KINDS, shownRows } from './history.ts'
import { html, type Markup } from './markup.ts'
import { sign } from './summary.ts'
import { backupTable, spanTable } from './tables.ts'
import { ordered } from './verdict.ts'

const DAY = 24 * 60 * 60_000
/** What is older than a few weeks gets a picture of its own, so that the newest days stay legible. */
const NEAR_MS = 28 * DAY
const WORTH_A_PICTURE = 1.6

/** What is years away will come otherwise. */
const WORTH_TELLING_SECONDS = 3 * 365 * 24 * 3600

/** Everything about a cluster. @param id what ids begin with */
export function clusterSection(cluster: ClusterReport, now: Date, id: string): Markup {
  const clock = new Clock(cluster.timeZone)
  return html`<section class="cluster" aria-labelledby="${id}">
<h2 id="${id}" tabindex="-1">Cluster ${cluster.cluster}</h2>
<p class="soft">${zoneText(clock, now)}</p>
${findingsPart(cluster, id)}
${cluster.repositories.map((repository, index) => repositoryPart(repository, clock, now, `${id}-${index + 1}`))}
</section>`
}

function zoneText(clock: Clock, now: Date): string {
  if (clock.zone === 'UTC') return 'Times are UTC.'
  const offset = clock.offsetText(now.getTime())
  return `Times are those of ${clock.zone}, which is UTC${offset} now.`
}

function findingsPart({ findings, checks, repositories }: ClusterReport, id: string): Markup {
  const groups = [
    { title: 'Server', findings },
    { title: 'The next backup and the next restore', findings: checks },
    ...repositories.map((repository) => ({
      title: `Repository ${repository.facts.repository}`,
      findings: repository.findings,
    })),
  ]
  return html`<section aria-labelledby="${id}-findings"><h3 id="${id}-findings" tabindex="-1">What was checked</h3>
${groups.filter((group) => group.findings.length > 0).map((group) => findingGroup(group.title, group.findings))}</section>`
}

function findingGroup(title: string, findings: readonly Finding[]): Markup {
  const wrong = ordered(findings.filter(({ severity }) => severity !== 'ok'))
  const passed = findings.filter(({ severity }) => severity === 'ok')
  return html`<h4>${title}</h4>
${wrong.length > 0 ? findingList(wrong) : html`<p class="fine">${sign('ok')}<span>Nothing is wrong</span></p>`}
${passed.length > 0 && html`<details><summary>${formatCount(passed.length, 'thing')} found to be well</summary>${findingList(passed)}</details>`}`
}

const findingList = (findings: readonly Finding[]) =>
  html`<ul class="findings">${findings.map(
    ({
      severity,
      subject,
      text,
      hint,
    }) => html`<li class="${severity}">${sign(severity)}<div><p><b class="level">${severity}</b> <span class="subject">${subject}</span> ${text}</p>${hint !== undefined && html`<p class="hint">${hint}</p>`}</div></li>
`,
  )}</ul>`

function repositoryPart({ facts, stored }: RepositoryReport, clock: Clock, now: Date, id: string): Markup {
  const free = facts.freeBytes === null ? '' : `, ${formatBytes(facts.freeBytes)} free`
  return html`<section class="repository" aria-labelledby="${id}"><h3 id="${id}" tabindex="-1">Repository ${facts.repository}</h3>
<p class="soft"><code>${facts.location}</code>${free}</p>
${stored ? storedParts(stored, facts, clock, now, id) : html`<p class="fine">${sign('fail')}<span>It cannot be read: ${facts.error ?? 'for an unknown reason'}</span></p>`}</section>`
}

type Stored = NonNullable<RepositoryReport['stored']>

function storedParts(stored: Stored, facts: RepositoryFacts, clock: Clock, now: Date, id: string): Markup {
  const { history, growth, forecast, catalog } = stored
  if (catalog.backups.length + catalog.logical.length === 0 && history.timelines.length === 0)
    return html`<p>Nothing is stored yet; <code>pgrecall backup</code> takes a backup.</p>`
  return html`${historyPart(stored, clock, id)}
<section aria-labelledby="${id}-growth"><h4 id="${id}-growth">Growth and rates</h4>
${growthText(facts)}
<figure class="panel" aria-labelledby="${id}-growth">${drawGrowth(growth, clock, id)}
${tableBeside({ of: 'Growth and rates', table: growthTable(growth, clock) })}</figure></section>
<section aria-labelledby="${id}-plan"><h4 id="${id}-plan">What retention will remove</h4>
${forecastPart(forecast, clock, now, id)}</section>`
}

function growthText({ growth, fullInSeconds }: RepositoryFacts): Markup | false {
  if (!growth) return false
  const full =
    fullInSeconds === null || fullInSeconds > WORTH_TELLING_SECONDS
      ? ''
      : ` At this pace it is full in ${formatAge(1000 * fullInSeconds)}, unless something is removed.`
  return html`<p>${formatBytes(growth.storedBytesPerDay)} a day are stored.${full}</p>`
}

function historyPart({ history, ...stored }: Stored, clock: Clock, id: string): Markup {
  const { now, begin } = history
  const { from: first } = rangeSince(begin, now)
  const isLong = now - first > WORTH_A_PICTURE * NEAR_MS
  const since = `Since ${now - begin < DAY ? clock.minute(begin) : clock.day(begin)}`
  const padded = (from: number): Range => ({
    from: from - 0.01 * (now - from),
    to: now + 0.015 * (now - from),
  })
  const pictures = isLong
    ? [
        { name: 'near', title: `The last ${NEAR_MS / DAY} days`, range: padded(now - NEAR_MS) },
        { name: 'all', title: since, range: padded(first) },
      ]
    : [{ name: 'all', title: since, range: padded(first) }]
  return html`<section aria-labelledby="${id}-moments"><h4 id="${id}-moments">Moments that can be recovered, and backups</h4>
<p>${countsText({ history, ...stored })}</p>
<figure class="panel" aria-labelledby="${id}-moments">
${pictures.map(({ name, title, range }) => {
  const rows = shownRows(history, range).length
  const hidden = history.timelines.length - rows
  return html`<h5 id="${id}-${name}">${title}${hidden > 0 && html`<span class="soft">, ${rows} of ${history.timelines.length} timelines</span>`}</h5>
${drawHistory(history, range, clock, `${id}-moments ${id}-${name}`)}
`
})}
<figcaption>${historyLegend(history)}</figcaption>
${tableBeside(
  { of: 'Moments that can be recovered', table: spanTable(history, clock) },
  { of: 'Backups', table: backupTable({ history, ...stored }, clock) },
)}</figure></section>`
}

function countsText({ history, catalog }: Stored): string {
  const counts = KINDS.flatMap((kind) => {
    const count =
      kind === 'logical' ? catalog.logical.length : catalog.backups.filter(({ type }) => type === kind).length
    return count > 0 ? [`${count} ${KIND_WORDS[kind]}`] : []
  })
  const timelines = formatCount(history.timelines.length, 'timeline')
  return counts.length === 0
    ? `No backups; WAL of ${timelines}.`
    : `Backups: ${counts.join(', ')}; ${timelines}.`
}

const KIND_WORDS = { full: 'full', diff: 'differential', incr: 'incremental', logical: 'logical' } as const

function forecastPart(forecast: Forecast, clock: Clock, now: Date, id: string): Markup {
  if (forecast.silent !== undefined) return html`<p>${forecast.silent}</p>`
  const until = clock.day(clock.daysAfter(now.getTime(), forecast.days))
  const gone = forecast.removals.flatMap(({ backups }) => backups)
  if (gone.length === 0)
    return html`<p>Nothing that is stored now goes before ${until}.</p><p class="soft">${rhythmText(forecast)}</p>`
  const bytes = gone.reduce((sum, { storedBytes }) => sum + storedBytes, 0)
  return html`<p>Until ${until}, ${formatCount(gone.length, 'backup')} of ${gone.length + forecast.left} will go, which frees ${formatBytes(bytes)} and what no other backup needs of the WAL.</p>
<figure class="panel" aria-labelledby="${id}-plan">
<h5 id="${id}-days">Backups that go, by the day; a number is how many</h5>
${drawForecast(forecast, now.getTime(), clock, `${id}-plan ${id}-days`)}
<figcaption class="soft">${rhythmText(forecast)}</figcaption>
${tableBeside({ of: 'What retention will remove', table: forecastTable(forecast, now.getTime(), clock) })}</figure>`
}

/** What the pictures show, for who cannot see them or wants to know it exactly. */
const tableBeside = (...tables: readonly { of: string; table: Markup }[]) =>
  html`<details class="beside"><summary>The same in ${tables.length > 1 ? 'tables' : 'a table'}</summary>${tables.map(
    ({ of, table }) =>
      html`<div class="scroll" tabindex="0" role="region" aria-label="${of}, as a table">${table}</div>`,
  )}</details>`
