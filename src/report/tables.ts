import { formatBytes, formatCount } from '../cli/units.ts'
import type { Clock } from './clock.ts'
import type { RepositoryReport } from './facts.ts'
import { type History, KINDS, type Mark, type Span } from './history.ts'
import { html, type Markup } from './markup.ts'

type Stored = NonNullable<RepositoryReport['stored']>

/** So many rows stand one by one; older ones are summed up. */
const MOST_SPANS = 40
const MOST_BACKUPS = 80

const SPAN_STATES: Record<Exclude<Span['kind'], 'shared'>, string> = {
  window: 'any moment can be recovered',
  gap: 'lost: WAL is missing',
  between: 'only the moments of backups',
}

/** What can be recovered and what cannot, newest first. */
export function spanTable({ timelines }: History, clock: Clock): Markup {
  const rows = timelines
    .flatMap(({ timeline, spans }) => joined(spans).map((span) => ({ timeline, ...span })))
    .toSorted((a, b) => b.to - a.to || b.timeline - a.timeline)
  const older = rows.length - MOST_SPANS
  return html`<table><caption>Moments that can be recovered, newest first</caption><thead><tr><th scope="col">Timeline</th><th scope="col">From</th><th scope="col">To</th><th scope="col">State</th></tr></thead><tbody>
${rows.slice(0, MOST_SPANS).map(
  ({
    timeline,
    kind,
    from,
    to,
  }) => html`<tr${kind === 'gap' && html` class="lost"`}><td>${timeline}</td><td>${moment(from, clock)}</td><td>${moment(to, clock)}</td><td>${SPAN_STATES[kind]}</td></tr>
`,
)}</tbody>${older > 0 && html`<tfoot><tr><td colspan="4">and ${formatCount(older, 'older stretch').replace('stretchs', 'stretches')}</td></tr></tfoot>`}</table>`
}

type Joined = Span & { kind: keyof typeof SPAN_STATES }

/** To who recovers, the way of the older timelines and the own one are one stretch. */
function joined(spans: readonly Span[]): Joined[] {
  const rows: Joined[] = []
  for (const [index, span] of spans.entries()) {
    const before = spans[index - 1]
    if (span.kind === 'window' && before?.kind === 'shared') rows.at(-1)!.to = span.to
    else rows.push({ ...span, kind: span.kind === 'shared' ? 'window' : span.kind })
  }
  return rows
}

export const moment = (at: number, clock: Clock): Markup =>
  html`<time datetime="${new Date(at).toISOString()}">${clock.minute(at)}</time>`

/** Backups newest first; the older ones by months. */
export function backupTable({ catalog, history, pins }: Stored, clock: Clock): Markup {
  const marks = [...history.timelines.flatMap((row) => row.marks), ...history.dumps].toSorted(
    (a, b) => b.at - a.at,
  )
  const facts = new Map(catalog.backups.map((backup) => [backup.id, backup]))
  const labels = new Map([...catalog.backups, ...catalog.logical].map(({ id, label }) => [id, label]))
  const older = byMonth(marks.slice(MOST_BACKUPS), clock)
  return html`<table><caption>Backups, newest first</caption><thead><tr><th scope="col">Backup</th><th scope="col">Consistent at</th><th scope="col" class="number">Timeline</th><th scope="col">Builds on</th><th scope="col" class="number">Stored</th><th scope="col">Remarks</th></tr></thead><tbody>
${marks.slice(0, MOST_BACKUPS).map((mark) => {
  const backup = facts.get(mark.id)
  const pin = pins.get(mark.id)
  const damaged = backup?.damagedPages ? formatCount(backup.damagedPages, 'damaged page') : undefined
  const remarks = [mark.isBroken && 'cannot be recovered', damaged, pin, labels.get(mark.id)].filter(Boolean)
  return html`<tr${mark.isBroken && html` class="lost"`}><th scope="row"><code>${mark.id}</code></th><td>${moment(mark.at, clock)}</td><td class="number">${backup?.timeline ?? '–'}</td><td>${backup?.parent ? html`<code>${backup.parent.id}</code>` : '–'}</td><td class="number">${formatBytes(mark.storedBytes)}</td><td>${(remarks as string[]).join('; ')}</td></tr>
`
})}${older.map(
  ({
    month,
    counts,
    bytes,
  }) => html`<tr><th scope="row">${month}</th><td colspan="3">${counts}</td><td class="number">${formatBytes(bytes)}</td><td></td></tr>
`,
)}</tbody></table>`
}

/** @param marks newest first */
function byMonth(marks: readonly Mark[], clock: Clock): { month: string; counts: string; bytes: number }[] {
  const months = new Map<string, Mark[]>()
  for (const mark of marks) {
    const month = clock.day(mark.at).slice(0, 7)
    const all = months.get(month) ?? []
    months.set(month, all)
    all.push(mark)
  }
  return [...months].map(([month, all]) => {
    const counts = KINDS.flatMap((kind) => {
      const count = all.filter((mark) => mark.kind === kind).length
      return count > 0 ? [`${count} ${kind}`] : []
    })
    return {
      month,
      counts: counts.join(', '),
      bytes: all.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
    }
  })
}
