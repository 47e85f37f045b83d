import { formatBytes, formatCount } from '../cli/units.ts'
import { percentOf, type Range, type Tick } from './axis.ts'
import type { Clock } from './clock.ts'
import type { Kind, Mark } from './history.ts'
import { html, type Markup } from './markup.ts'

/** The lanes below a timeline; logical backups belong to none. */
export const LANES = ['full', 'diff', 'incr'] as const

export const KIND_NAMES: Record<Kind, string> = {
  full: 'full backup',
  diff: 'differential backup',
  incr: 'incremental backup',
  logical: 'logical backup',
}

/** As they stand beside a lane. */
export const LANE_NAMES: Record<Kind, string> = { full: 'full', diff: 'diff', incr: 'incr', logical: 'dump' }

/** What lies within the same of so many parts of the width is drawn as one. */
const PARTS = 150

/** Where a backup is drawn, in percent of the width. */
export interface PlacedMark {
  x: number
}

export interface DrawnMarks {
  placeOf(id: string): PlacedMark | undefined
  /** @param y the middle of the lane, in pixels */
  marksAt(kind: Kind, y: number, clock: Clock): Markup[]
}

/** Places backups: one that is alone where it belongs, several that lie too close together as one bar. Pure. */
export function drawnMarks(marks: readonly Mark[], range: Range): DrawnMarks {
  const groups = new Map<string, Mark[]>()
  for (const mark of marks) {
    if (mark.at < range.from || mark.at > range.to) continue
    const key = `${mark.kind} ${partOf(mark, range)}`
    groups.set(key, [...(groups.get(key) ?? []), mark])
  }
  const places = new Map<string, PlacedMark>()
  for (const group of groups.values()) {
    const [first] = group
    const x = group.length === 1 ? percentOf(range, first!.at) : middleOf(partOf(first!, range))
    for (const { id } of group) places.set(id, { x })
  }
  return {
    placeOf: (id) => places.get(id),
    marksAt: (kind, y, clock) =>
      [...groups.values()]
        .filter(([first]) => first!.kind === kind)
        .map((group) => drawGroup(group, places.get(group[0]!.id)!, y, clock)),
  }
}

const partOf = ({ at }: Mark, range: Range) =>
  Math.min(PARTS - 1, Math.floor((percentOf(range, at) / 100) * PARTS))
const middleOf = (part: number) => Math.round(((part + 0.5) / PARTS) * 10_000) / 100

function drawGroup(group: readonly Mark[], { x }: PlacedMark, y: number, clock: Clock): Markup {
  const [first] = group
  const { kind } = first!
  const broken = group.filter(({ isBroken }) => isBroken).length
  if (group.length === 1) {
    const symbol = broken > 0 ? 'broken' : kind
    const lost = broken > 0 && '; it cannot be recovered'
    return html`<use class="mark ${kind}${broken > 0 && ' broken'}" href="#mark-${symbol}" x="${x}%" y="${y}"><title>${KIND_NAMES[kind]} ${first!.id}, ${clock.minute(first!.at)}, ${formatBytes(first!.storedBytes)}${lost}</title></use>`
  }
  const width = 100 / PARTS
  const bytes = group.reduce((sum, { storedBytes }) => sum + storedBytes, 0)
  const lost = broken > 0 && `; ${broken} cannot be recovered`
  return html`<rect class="mark many ${kind}" x="${(x - width / 2).toFixed(2)}%" y="${y - 5}" width="${width.toFixed(2)}%" height="10"><title>${formatCount(group.length, KIND_NAMES[kind])}, ${clock.minute(first!.at)} to ${clock.minute(group.at(-1)!.at)}, ${formatBytes(bytes)}${lost}</title></rect>`
}

/** A text this close to another one would be written over it, percent of the width; where there is little room, sooner. */
const EDGE = 6
const NARROW_EDGE = 15

/** Lines at round moments, their texts below, and where now is. */
export function drawAxis(
  ticks: readonly Tick[],
  range: Range,
  { top, bottom, now }: { top: number; bottom: number; now: number | undefined },
): Markup {
  const present = now === undefined ? undefined : percentOf(range, now)
  return html`<g class="axis">${ticks.map(({ at, text, isMajor }) => {
    const x = percentOf(range, at)
    const room = present === undefined ? 100 : Math.abs(present - x)
    const isFree = room > EDGE && x > EDGE / 2 && x < 100 - EDGE / 2
    const isMinor = !isMajor || room < NARROW_EDGE
    return html`<line class="grid" x1="${x}%" x2="${x}%" y1="${top}" y2="${bottom}"/>${isFree && html`<text class="tick${isMinor && ' minor'}" x="${x}%" y="${bottom + 18}">${text}</text>`}`
  })}${present !== undefined && html`<line class="now" x1="${present}%" x2="${present}%" y1="${top}" y2="${bottom}"/><text class="tick now-text" x="${present}%" y="${bottom + 18}">now</text>`}</g>`
}

/** The shapes, once for all pictures; each has its middle at 0, 0. */
export const SHAPES = html`<svg class="shapes" width="0" height="0" aria-hidden="true"><defs>
<g id="mark-full"><rect x="-5.5" y="-5.5" width="11" height="11" rx="2"/></g>
<g id="mark-diff"><path d="M0-6 6 5H-6Z"/></g>
<g id="mark-incr"><circle r="3.6"/></g>
<g id="mark-logical"><path d="M0-6 6 0 0 6-6 0Z"/></g>
<g id="mark-broken"><path class="cross" d="M-5-5 5 5M5-5-5 5"/></g>
<g id="sign-ok"><circle cx="12" cy="12" r="11" class="sign-ground"/><path class="sign-line" d="m6.5 12.5 4 4 7-8.5"/></g>
<g id="sign-warn"><path class="sign-ground" d="M12 1.5 23.5 22H.5Z"/><path class="sign-line" d="M12 9v6m0 3v.4"/></g>
<g id="sign-fail"><path class="sign-ground" d="M7.5 1h9L23 7.5v9L16.5 23h-9L1 16.5v-9Z"/><path class="sign-line" d="m8 8 8 8m0-8-8 8"/></g>
<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="hatch-ground" width="6" height="6"/><rect class="hatch-line" width="2.4" height="6"/></pattern>
</defs></svg>`
