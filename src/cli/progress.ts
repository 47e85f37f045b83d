import type { EventMap, Events } from '../events.ts'
import { displayWidth, escapeControls, paint, type Styles, type Terminal } from './terminal.ts'
import { formatBytes, formatDuration, formatRate } from './units.ts'

export interface ProgressOptions {
  /** The time in milliseconds, from any fixed origin. */
  clock: () => number
  /** Whether the terminal shows UTF-8; bars are ASCII otherwise. True unless said otherwise. */
  unicode?: boolean
  /** Only warnings: neither steps, nor bars, nor lines about finished tasks. */
  quiet?: boolean
}

const REDRAW_MS = 100
const RATE_WINDOW_MS = 5000
// A rate over less than this is noise.
const RATE_MINIMUM_MS = 250

/**
 * Shows events on a terminal: steps and warnings as lines, running tasks as bars (when interactive), and one
 * line for each task that ended.
 */
export function attachProgress(events: Events, terminal: Terminal, options: ProgressOptions): void {
  const { clock, unicode = true, quiet = false } = options
  const tasks = new Map<string, Task>()
  let drawnAt = Number.NEGATIVE_INFINITY

  const draw = () =>
    terminal.setStatus([...tasks.values()].map((task) => taskLine(task, terminal, unicode, clock())))

  events.on('warning', ({ text }) => {
    terminal.line(`${paint('warning:', 'yellow', terminal.color)} ${escapeControls(text)}`)
  })
  if (quiet) return

  events.on('step', ({ text }) => {
    // A log file or a mail from cron gets the sentence alone.
    const bullet = terminal.interactive ? paint(unicode ? '• ' : '- ', 'cyan', terminal.color) : ''
    terminal.line(bullet + escapeControls(text))
  })
  events.on('notice', ({ lines }) => {
    for (const line of lines) terminal.line(escapeControls(line))
  })

  events.on('progress', (event) => {
    const now = clock()
    const task = tasks.get(event.task) ?? new Task(event, now)
    tasks.set(event.task, task)
    task.update(event, now)
    if (now - drawnAt < REDRAW_MS) return
    drawnAt = now
    draw()
  })
  events.on('progressEnd', (event) => {
    const task = tasks.get(event.task)
    if (task === undefined || !tasks.delete(event.task)) return
    draw()
    terminal.line(finishedLine(task, clock()))
  })
}

/** One running task: its latest counts, and enough of its past for a rate. */
class Task {
  readonly startedAt: number
  latest: EventMap['progress']
  #samples: { at: number; bytes: number }[] = []

  constructor(event: EventMap['progress'], now: number) {
    this.startedAt = now
    this.latest = event
  }

  update(event: EventMap['progress'], now: number): void {
    this.latest = event
    const last = this.#samples.at(-1)
    if (last === undefined || now - last.at >= REDRAW_MS) this.#samples.push({ at: now, bytes: event.bytes })
    while (this.#samples.length > 1 && this.#samples[0]!.at < now - RATE_WINDOW_MS) this.#samples.shift()
  }

  /** Bytes per second over the last seconds, or undefined while that cannot be told. */
  rate(now: number): number | undefined {
    const first = this.#samples[0]
    if (first === undefined || now - first.at < RATE_MINIMUM_MS) return undefined
    return Math.max(0, ((this.latest.bytes - first.bytes) * 1000) / (now - first.at))
  }
}

interface Part {
  text: string
  style?: Styles
}

function taskLine(task: Task, terminal: Terminal, unicode: boolean, now: number): string {
  const { task: name, bytes, total, items } = task.latest
  const width = terminal.columns - 1
  const rate = task.rate(now)

  // In the order of their worth: a narrow terminal loses the last ones first.
  const parts: Part[][] = [[{ text: escapeControls(name), style: 'bold' }]]
  if (total === undefined) {
    parts.push([{ text: formatBytes(bytes) }])
  } else {
    const fraction = total > 0 ? Math.min(1, bytes / total) : 1
    parts.push(bar(fraction, Math.max(10, Math.min(24, width - 70)), unicode))
    parts.push([{ text: `${Math.floor(fraction * 100)}%`.padStart(3) }])
    parts.push([{ text: `${formatBytes(bytes)} of ${formatBytes(total)}` }])
  }
  if (rate !== undefined) parts.push([{ text: formatRate(rate) }])
  if (total !== undefined && rate) {
    parts.push([{ text: `${countdown(Math.max(0, total - bytes) / rate)} left`, style: 'dim' }])
  }
  if (items > 0) parts.push([{ text: items === 1 ? '1 file' : `${items} files`, style: 'dim' }])

  const plain = () => parts.map((part) => part.map(({ text }) => text).join('')).join('  ')
  while (parts.length > 1 && displayWidth(plain()) > width) parts.pop()
  return parts
    .map((part) =>
      part.map(({ text, style }) => (style ? paint(text, style, terminal.color) : text)).join(''),
    )
    .join('  ')
}

function bar(fraction: number, cells: number, unicode: boolean): Part[] {
  const eighths = Math.floor(fraction * cells * 8)
  const full = Math.floor(eighths / 8)
  const partial = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'][eighths % 8]!
  const done = unicode ? '█'.repeat(full) + partial : '#'.repeat(full)
  const rest = (unicode ? '·' : '.').repeat(cells - done.length)
  return [{ text: '[' }, { text: done, style: 'cyan' }, { text: rest, style: 'dim' }, { text: ']' }]
}

function countdown(seconds: number): string {
  const whole = Math.ceil(seconds)
  const pad = (value: number) => String(value).padStart(2, '0')
  const hours = Math.floor(whole / 3600)
  return `${hours > 0 ? `${hours}:` : ''}${pad(Math.floor(whole / 60) % 60)}:${pad(whole % 60)}`
}

function finishedLine(task: Task, now: number): string {
  const { task: name, bytes } = task.latest
  const elapsed = now - task.startedAt
  const rate = elapsed > 0 ? `, ${formatRate((bytes * 1000) / elapsed)}` : ''
  return `${escapeControls(name)}: ${formatBytes(bytes)} in ${formatDuration(elapsed)}${rate}`
}
