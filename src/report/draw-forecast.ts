import { formatBytes, formatCount } from '../cli/units.ts'
import { percentOf, ticksOf } from './axis.ts'
import type { Clock } from './clock.ts'
import { drawAxis, KIND_NAMES, LANE_NAMES } from './draw-marks.ts'
import type { Forecast, Removal } from './forecast.ts'
import { KINDS, type Kind } from './history.ts'
import { html, type Markup } from './markup.ts'

const DAY = 24 * 60 * 60_000
const TOP = 14
const LANE = 30
/** So many backups that go on one day are named one by one. */
const NAMED = 12

/** How many backups of each kind go on which of the next days. @param labels the ids of what names the picture */
export function drawForecast(
  { removals, days }: Forecast,
  now: number,
  clock: Clock,
  labels: string,
): Markup {
  const range = { from: clock.midnight(now), to: clock.daysAfter(now, days + 1) }
  const kinds = KINDS.filter((kind) =>
    removals.some(({ backups }) => backups.some((backup) => backup.kind === kind)),
  )
  const bottom = TOP + kinds.length * LANE
  const lane = (kind: Kind, index: number) => {
    const y = TOP + index * LANE + LANE / 2 + 4
    return html`<text class="gutter" x="-10" y="${y + 4}">${LANE_NAMES[kind]}</text><line class="lane" x1="0" x2="100%" y1="${y}" y2="${y}"/>
${removals.map(({ at, backups }) => {
  const count = backups.filter((backup) => backup.kind === kind).length
  const x = percentOf(range, clock.midnight(at) + DAY / 2)
  return (
    count > 0 &&
    html`<use class="mark ${kind}" href="#mark-${kind}" x="${x}%" y="${y}"><title>${clock.day(at)}: ${formatCount(count, KIND_NAMES[kind])}</title></use>${count > 1 && html`<text class="count" x="${x}%" y="${y - 9}">${count}</text>`}`
  )
})}
`
  }
  return html`<svg class="chart forecast" role="img" aria-labelledby="${labels}" width="100%" height="${bottom + 28}">
${drawAxis(ticksOf(range, clock), range, { top: TOP, bottom: bottom + 4, now: undefined })}
${kinds.map(lane)}</svg>`
}

/** By which rhythm the forecast reckons, in a sentence. */
export function rhythmText({ rhythm, everyDays }: Forecast): string {
  if (rhythm.length === 0)
    return 'Backups were too few, or too long ago, to tell when the next ones come; so none are reckoned with.'
  const beats = rhythm.map(
    ({ kind, everyMs }) => `a ${KIND_NAMES[kind].replace('backup', 'one')} every ${spanText(everyMs)}`,
  )
  return `Reckoned as if retention ran every ${everyDays === 1 ? 'day' : 'week'}, and backups went on as they did lately: ${beats.join(', ')}.`.replace(
    / a (?=incr)/,
    ' an ',
  )
}

/** Clocks and backups are not so even that more than the nearest hour or day meant anything. */
function spanText(ms: number): string {
  const days = Math.round(ms / DAY)
  const hours = Math.round(ms / (DAY / 24))
  if (hours < 22) return hours === 1 ? 'hour' : `${hours} hours`
  return days === 1 ? 'day' : `${days} days`
}

/** The same in numbers, and why. */
export function forecastTable({ removals }: Forecast, now: number, clock: Clock): Markup {
  return html`<table><caption>What goes when, of what is stored now</caption><thead><tr><th scope="col">When</th><th scope="col">What goes</th><th scope="col">Why</th><th scope="col" class="number">Frees</th></tr></thead><tbody>
${removals.map((removal) => {
  const bytes = removal.backups.reduce((sum, { storedBytes }) => sum + storedBytes, 0)
  return html`<tr><th scope="row">${removal.at === now ? 'with the next run' : clock.day(removal.at)}</th><td>${namesOf(removal)}</td><td>${reasonsOf(removal)}</td><td class="number">${formatBytes(bytes)}</td></tr>
`
})}</tbody></table>`
}

function namesOf({ backups }: Removal): Markup {
  if (backups.length <= NAMED)
    return html`${backups.map(({ id }, index) => html`${index > 0 && html`<br>`}<code>${id}</code>`)}`
  const counts = KINDS.flatMap((kind) => {
    const count = backups.filter((backup) => backup.kind === kind).length
    return count > 0 ? [formatCount(count, KIND_NAMES[kind])] : []
  })
  return html`${counts.join(', ')}, <code>${backups[0]!.id}</code> to <code>${backups.at(-1)!.id}</code>`
}

const reasonsOf = ({ backups }: Removal) => [...new Set(backups.map(({ reason }) => reason))].join('; ')
