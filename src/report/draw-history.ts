import { percentOf, type Range, ticksOf } from './axis.ts'
import type { Clock } from './clock.ts'
import { drawAxis, drawnMarks, KIND_NAMES, LANES, type PlacedMark } from './draw-marks.ts'
import { type History, type Kind, type Span, shownRows, type TimelineRow } from './history.ts'
import { html, type Markup } from './markup.ts'

/** Heights, in pixels. Across, all is in percent: so a picture fits any width, and what is written keeps its size. */
const TOP = 22
const TITLE = 20
const BAND = 16
const LANE = 19
const BELOW = 18

/** A timeline that is drawn, and where. */
interface Place {
  row: TimelineRow
  top: number
  /** The middle of each kind's lane. */
  lanes: ReadonlyMap<Kind, number>
}

/**
 * Draws what can be recovered and by which backups, within a stretch of time: a band for each timeline, and below it a lane
 * for each kind of backup, with the chains that they make.
 * @param labels the ids of the elements that name and describe the picture
 */
export function drawHistory(history: History, range: Range, clock: Clock, labels: string): Markup {
  const rows = shownRows(history, range)
  const { places, bottom } = laidOut(rows)
  const dumps = history.dumps.filter(({ at }) => at >= range.from && at <= range.to)
  const dumpLane = bottom + LANE / 2
  const end = dumps.length > 0 ? bottom + LANE + BELOW / 2 : bottom
  const drawn = new Map(places.map((place) => [place, drawnMarks(place.row.marks, range)]))
  const height = end + 26
  return html`<svg class="chart history" role="img" aria-labelledby="${labels}" width="100%" height="${height}">
${drawAxis(ticksOf(range, clock), range, { top: TOP - 6, bottom: end, now: history.now })}
${places.map((place) => drawBranch(place, places, range))}
${places.map(
  (place) => html`<g>${drawRow(place, range, clock)}${drawLinks(place, places, drawn, range)}${[
    ...place.lanes,
  ].map(([kind, y]) => drawn.get(place)!.marksAt(kind, y, clock))}</g>
`,
)}
${places.map((place) => drawFork(place, places, range))}
${dumps.length > 0 && html`<g><text class="gutter" x="-10" y="${dumpLane + 4}">dump</text>${drawnMarks(dumps, range).marksAt('logical', dumpLane, clock)}</g>`}
</svg>`
}

function laidOut(rows: readonly TimelineRow[]): { places: Place[]; bottom: number } {
  let top = TOP
  const places = rows.map((row): Place => {
    const kinds = LANES.filter((kind) => row.marks.some((mark) => mark.kind === kind))
    const first = top + TITLE + BAND + 6
    const place = {
      row,
      top,
      lanes: new Map(kinds.map((kind, index) => [kind, first + index * LANE + LANE / 2])),
    }
    top = first + kinds.length * LANE + BELOW
    return place
  })
  return { places, bottom: top }
}

const bandOf = ({ top }: Place) => top + TITLE

function drawRow({ row, top, lanes }: Place, range: Range, clock: Clock): Markup {
  const from = row.branch && html`<tspan class="soft">, from timeline ${row.branch.from}</tspan>`
  return html`<text class="title" x="0" y="${top + 13}">Timeline ${row.timeline}${from}</text>
<rect class="floor" x="0" y="${top + TITLE}" width="100%" height="${BAND}" rx="4"/>
${inFront(row.spans).map((span) => drawSpan(span, top + TITLE, range, clock))}
${[...lanes].map(([kind, y]) => html`<text class="gutter" x="-10" y="${y + 4}">${kind}</text><line class="lane" x1="0" x2="100%" y1="${y}" y2="${y}"/>`)}`
}

const SPAN_TEXTS: Record<Span['kind'], string> = {
  window: 'Any moment can be recovered',
  shared: 'Any moment can be recovered, on the way of the timelines before',
  gap: 'Lost, as WAL is missing',
  between: 'Only the moments of backups, as no WAL of that time is kept',
}

/** However short a gap is, nothing is drawn over it but what leads to now. */
function inFront(spans: readonly Span[]): Span[] {
  const newest = spans.at(-1)
  const layerOf = (span: Span) => (span === newest ? 2 : span.kind === 'gap' ? 1 : 0)
  return spans.toSorted((a, b) => layerOf(a) - layerOf(b))
}

/** In percent: as narrow as can still be seen. */
const NARROWEST = 0.3

function drawSpan({ kind, from, to }: Span, y: number, range: Range, clock: Clock): Markup | false {
  if (to < range.from || from > range.to) return false
  const left = percentOf(range, from)
  const width = Math.max(NARROWEST, Math.round((percentOf(range, to) - left) * 100) / 100)
  const [inset, height] = kind === 'shared' || kind === 'between' ? [BAND / 2 - 2, 4] : [0, BAND]
  return html`<rect class="span ${kind}" x="${left}%" y="${y + inset}" width="${width}%" height="${height}" rx="2"><title>${SPAN_TEXTS[kind]}: ${clock.minute(from)} to ${clock.minute(to)}</title></rect>`
}

/** From the older timeline's band at the moment that was gone back to, down, and on to where the new one begins. */
function drawBranch(place: Place, places: readonly Place[], range: Range): Markup | false {
  const { branch } = place.row
  if (!branch || branch.goesOnAt < range.from) return false
  const older = places.find(({ row }) => row.timeline === branch.from)
  const [left, on] = [percentOf(range, branch.leftAt), percentOf(range, branch.goesOnAt)]
  const to = bandOf(place) + BAND / 2
  const across = html`<line class="branch" x1="${left}%" x2="${on}%" y1="${to}" y2="${to}"/>`
  if (!older || branch.leftAt < range.from) return across
  const from = bandOf(older) + BAND / 2
  return html`<line class="branch" x1="${left}%" x2="${left}%" y1="${from}" y2="${to}"/>${across}`
}

/** Where the older timeline was left; drawn upon its band. */
function drawFork({ row: { branch } }: Place, places: readonly Place[], range: Range): Markup | false {
  const older = places.find(({ row }) => row.timeline === branch?.from)
  if (!branch || !older || branch.leftAt < range.from) return false
  return html`<circle class="fork" cx="${percentOf(range, branch.leftAt)}%" cy="${bandOf(older) + BAND / 2}" r="4.5"/>`
}

/** What lies so close that it is drawn as one has one link; the lines are drawn below all marks. */
function drawLinks(
  { row, lanes }: Place,
  places: readonly Place[],
  drawn: ReadonlyMap<Place, { placeOf(id: string): PlacedMark | undefined }>,
  range: Range,
): Markup[] {
  const lines = new Map<string, Markup>()
  const add = (line: Markup) => lines.set(line.text, line)
  for (const { lower, upper } of row.links) {
    if (upper.at < range.from) continue
    const own = places.find((place) => place.row === row)!
    const to = drawn.get(own)!.placeOf(upper.id)
    const y = lanes.get(upper.kind)
    const below = places.find((place) => place.row.timeline === lower.timeline)
    const from = below && drawn.get(below)!.placeOf(lower.id)
    const start = below?.lanes.get(lower.kind)
    if (!to || y === undefined) continue
    if (from && start !== undefined && start !== y)
      add(html`<line class="link" x1="${from.x}%" x2="${from.x}%" y1="${start}" y2="${y}"/>`)
    add(html`<line class="link" x1="${from?.x ?? 0}%" x2="${to.x}%" y1="${y}" y2="${y}"/>`)
  }
  return [...lines.values()]
}

/** What the shapes and colours mean; only those that there are. */
export function historyLegend(history: History): Markup {
  const kinds = [
    ...LANES.filter((kind) =>
      history.timelines.some(({ marks }) => marks.some((mark) => mark.kind === kind)),
    ),
    ...(history.dumps.length > 0 ? (['logical'] as const) : []),
  ]
  const spans = (Object.keys(SPAN_TEXTS) as Span['kind'][]).filter((kind) =>
    history.timelines.some((row) => row.spans.some((span) => span.kind === kind)),
  )
  const hasBranch = history.timelines.some(({ branch }) => branch)
  const hasBroken = history.timelines.some(({ marks }) => marks.some(({ isBroken }) => isBroken))
  return html`<ul class="legend">
${spans.map(
  (
    kind,
  ) => html`<li><svg aria-hidden="true" width="22" height="12"><rect class="span ${kind}" x="1" y="${kind === 'window' || kind === 'gap' ? 1 : 4}" width="20" height="${kind === 'window' || kind === 'gap' ? 10 : 4}" rx="2"/></svg>${LEGEND_TEXTS[kind]}</li>
`,
)}${
  hasBranch &&
  html`<li><svg aria-hidden="true" width="22" height="12"><line class="branch" x1="1" x2="21" y1="6" y2="6"/><circle class="fork" cx="5" cy="6" r="4"/></svg>recovered to here, and gone on as another timeline</li>
`
}${kinds.map(
  (
    kind,
  ) => html`<li><svg aria-hidden="true" width="16" height="16"><use class="mark ${kind}" href="#mark-${kind}" x="8" y="8"/></svg>${KIND_NAMES[kind]}</li>
`,
)}${
  hasBroken &&
  html`<li><svg aria-hidden="true" width="16" height="16"><use class="mark full broken" href="#mark-broken" x="8" y="8"/></svg>cannot be recovered</li>
`
}</ul>`
}

const LEGEND_TEXTS: Record<Span['kind'], string> = {
  window: 'any moment can be recovered',
  shared: 'the same, by the timelines before',
  gap: 'lost: WAL is missing',
  between: 'only the moments of backups',
}
