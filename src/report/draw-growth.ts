import { formatBytes } from '../cli/units.ts'
import { percentOf } from './axis.ts'
import type { Clock } from './clock.ts'
import type { Growth, Period } from './growth.ts'
import { KINDS } from './history.ts'
import { html, type Markup } from './markup.ts'

const TOP = 14
const HEIGHT = 96

/** A value of some periods; each drawn in a picture of its own, as they have nothing in common but the time. */
interface Series {
  id: string
  title: string
  valueOf: (period: Period) => number | undefined
  textOf: (value: number) => string
  form: 'line' | 'bars'
  /** Whether all of them together tell more than the newest. */
  isSum?: boolean
}

const perSecond = (bytes: number) => `${formatBytes(bytes)}/s`
const storedIn = ({ storedBytes }: Period) => KINDS.reduce((sum, kind) => sum + storedBytes[kind], 0)

const seriesOf = (unit: Growth['unit']): Series[] => [
  {
    ...{ id: 'size', title: 'Size of the cluster', form: 'line' },
    ...{ valueOf: ({ clusterBytes }) => clusterBytes, textOf: formatBytes },
  },
  {
    ...{ id: 'stored', title: `Stored now, by the ${unit} of the backup`, form: 'bars', isSum: true },
    ...{ valueOf: storedIn, textOf: formatBytes },
  },
  {
    ...{ id: 'wal', title: 'WAL written a day', form: 'bars' },
    ...{ valueOf: ({ walBytesPerDay }) => walBytesPerDay, textOf: formatBytes },
  },
  {
    ...{ id: 'rate', title: 'Rate of full backups', form: 'line' },
    ...{ valueOf: ({ fullBytesPerSecond }) => fullBytesPerSecond, textOf: perSecond },
  },
]

/** One small picture for each value, with its newest and its largest in words. @param id what ids begin with */
export function drawGrowth({ unit, periods }: Growth, clock: Clock, id: string): Markup {
  return html`<div class="multiples">${seriesOf(unit).map((series) => {
    const known = periods.flatMap((period) => {
      const value = series.valueOf(period)
      return value === undefined ? [] : [{ period, value }]
    })
    const newest = known.at(-1)
    const most = known.reduce((largest, { value }) => Math.max(largest, value), 0)
    const name = `${id}-${series.id}`
    return html`<section class="multiple" aria-labelledby="${name}">
<h5 id="${name}">${series.title}</h5>
${headline(series, known, most)}
${newest && most > 0 && chart(series, known, most, periods, clock, name)}
</section>`
  })}</div>`
}

type Value = { period: Period; value: number }

function headline({ isSum, textOf }: Series, known: readonly Value[], most: number): Markup {
  const newest = known.at(-1)
  if (!newest) return html`<p class="soft">not known yet</p>`
  const sum = known.reduce((all, { value }) => all + value, 0)
  const [figure, what] = isSum ? [sum, 'in all'] : [newest.value, 'lately']
  return html`<p class="figure">${textOf(figure)} <span class="soft">${what}; ${textOf(most)} at most</span></p>`
}

function chart(
  series: Series,
  known: readonly Value[],
  most: number,
  periods: readonly Period[],
  clock: Clock,
  name: string,
): Markup {
  const range = { from: periods[0]!.from, to: periods.at(-1)!.to }
  const bottom = TOP + HEIGHT
  const y = (value: number) => Math.round((bottom - (value / most) * HEIGHT) * 10) / 10
  return html`<svg class="chart growth" role="img" aria-labelledby="${name}" width="100%" height="${bottom + 26}">
<line class="grid" x1="0" x2="100%" y1="${TOP}" y2="${TOP}"/><line class="base" x1="0" x2="100%" y1="${bottom}" y2="${bottom}"/>
<text class="first" x="0" y="${bottom + 18}">${clock.day(range.from)}</text><text class="last" x="100%" y="${bottom + 18}">${clock.day(range.to - 1)}</text>
${series.form === 'line' ? line(series, known, range, y, clock) : bars(series, known, range, y, clock)}
</svg>`
}

type Range = { from: number; to: number }

const textOf = (series: Series, { period, value }: Value, clock: Clock) =>
  `from ${clock.day(period.from)}: ${series.textOf(value)}`

function bars(
  series: Series,
  known: readonly Value[],
  range: Range,
  y: (value: number) => number,
  clock: Clock,
): Markup[] {
  return known
    .filter(({ value }) => value > 0)
    .map((each) => {
      const { from, to } = each.period
      const left = percentOf(range, from + 0.12 * (to - from))
      const width = (percentOf(range, to - 0.12 * (to - from)) - left).toFixed(2)
      const top = y(each.value)
      return html`<rect class="bar" x="${left}%" y="${top}" width="${width}%" height="${(y(0) - top).toFixed(1)}" rx="1"><title>${textOf(series, each, clock)}</title></rect>`
    })
}

function line(
  series: Series,
  known: readonly Value[],
  range: Range,
  y: (value: number) => number,
  clock: Clock,
): Markup[] {
  const points = known.map((each) => ({
    ...each,
    x: percentOf(range, (each.period.from + each.period.to) / 2),
  }))
  return points.map((point, index) => {
    const before = points[index - 1]
    return html`${before && html`<line class="curve" x1="${before.x}%" x2="${point.x}%" y1="${y(before.value)}" y2="${y(point.value)}"/>`}<circle class="point" cx="${point.x}%" cy="${y(point.value)}" r="2.4"><title>${textOf(series, point, clock)}</title></circle>`
  })
}

/** The same in numbers, newest first; periods with nothing are left out. */
export function growthTable({ unit, periods }: Growth, clock: Clock): Markup {
  const rows = periods
    .filter((period) => KINDS.some((kind) => period.counts[kind] > 0) || period.walBytesPerDay !== undefined)
    .toReversed()
  const known = (value: number | undefined, text: (value: number) => string) =>
    value === undefined ? '–' : text(value)
  return html`<table><caption>By ${unit}s, newest first</caption><thead><tr><th scope="col">${unit === 'day' ? 'Day' : `${unit === 'week' ? 'Week' : 'Month'} from`}</th><th scope="col">Backups</th><th scope="col" class="number">Size of the cluster</th><th scope="col" class="number">Stored</th><th scope="col" class="number">WAL a day</th><th scope="col" class="number">Rate of full backups</th></tr></thead><tbody>
${rows.map((period) => {
  const counts = KINDS.filter((kind) => period.counts[kind] > 0).map(
    (kind) => `${period.counts[kind]} ${kind}`,
  )
  return html`<tr><th scope="row">${clock.day(period.from)}</th><td>${counts.join(', ') || '–'}</td><td class="number">${known(period.clusterBytes, formatBytes)}</td><td class="number">${formatBytes(storedIn(period))}</td><td class="number">${known(period.walBytesPerDay, formatBytes)}</td><td class="number">${known(period.fullBytesPerSecond, perSecond)}</td></tr>
`
})}</tbody></table>`
}
