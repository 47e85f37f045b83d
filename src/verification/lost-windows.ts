import type { Catalog } from '../catalog/catalog.ts'
import { withoutRemoved } from '../catalog/parts-of-runs.ts'
import type { Span } from '../catalog/segment-spans.ts'
import { type Lsn, lsn } from '../postgres/lsn.ts'
import { segmentName } from '../postgres/wal-file.ts'
import { type Stretch, stretchesOf } from '../retention/stretches.ts'

/** What is asked: the cluster as it would be if nothing were damaged. */
export type Whole = Pick<Catalog, 'backups' | 'logical' | 'wal' | 'walSegmentBytes'>

/** Moments of a timeline that nothing leads to any more; ISO 8601, by the clocks of the server and of the store. */
export interface LostWindow {
  timeline: number
  from: string
  until: string
}

interface Window {
  timeline: number
  /** From the end of the backup that leads into it to the first position that its WAL does not cover. */
  begin: Lsn
  end: Lsn
  from: string
  until: string
}

/**
 * To which moments one can go back now, and could not without something. Pure.
 * @param cutAt when what is cut out of the WAL was stored, where it is WAL; of a run in two parts only the times of all are known
 */
export function lostWindows(before: Whole, after: Whole, cutAt?: string): LostWindow[] {
  const left = windowsOf(after)
  return windowsOf(before).flatMap((window) => {
    const own = left
      .filter(
        (other) => other.timeline === window.timeline && other.begin < window.end && window.begin < other.end,
      )
      .toSorted((a, b) => (a.begin < b.begin ? -1 : 1))
    return piecesOf(window, own, cutAt).map(({ from, until }) => ({ timeline: window.timeline, from, until }))
  })
}

/** What is left of a window without others. Where it is cut, the time is that of the window which ends or begins there. */
function piecesOf(
  window: Window,
  others: readonly Window[],
  cutAt: string | undefined,
): Pick<Window, 'from' | 'until'>[] {
  const pieces: Pick<Window, 'from' | 'until'>[] = []
  let next = window.begin
  let { from } = window
  for (const other of others) {
    if (other.begin > next) pieces.push({ from, until: other.from })
    if (other.end <= next) continue
    next = other.end
    from = cutAt ?? other.until
  }
  if (next < window.end) pieces.push({ from, until: window.until })
  return pieces
}

function windowsOf(whole: Whole): Window[] {
  return stretchesOf(whole).map(({ timeline, backups, end, goesOn, storedUntil }: Stretch) => {
    const { stop } = backups[0]!
    const begin = lsn(stop.lsn)
    return {
      timeline,
      begin,
      end: goesOn && end > begin ? end : begin + 1n,
      from: momentOf(stop.time),
      until: goesOn ? storedUntil : momentOf(stop.time),
    }
  })
}

const momentOf = (time: string) => new Date(time).toISOString()

export function withoutBackups(whole: Whole, ids: readonly string[]): Whole {
  const gone = new Set(ids)
  return { ...whole, backups: whole.backups.filter(({ id }) => !gone.has(id)) }
}

export function withoutSegments(whole: Whole, timeline: number, { first, last }: Span): Whole {
  const { walSegmentBytes } = whole
  const removed: { name: string; bytes: number }[] = []
  for (let number = first; number <= last; number++)
    removed.push({ name: segmentName(timeline, number, walSegmentBytes), bytes: 0 })
  const wal = whole.wal.map((entry) =>
    entry.timeline === timeline ? withoutRemoved(entry, removed, walSegmentBytes) : entry,
  )
  return { ...whole, wal }
}
