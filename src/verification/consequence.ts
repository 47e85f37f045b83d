import type { BackupObject, BackupSummary } from '../catalog/backup-record.ts'
import { Chains } from '../catalog/chains.ts'
import type { LogicalObject } from '../catalog/logical-record.ts'
import type { Span } from '../catalog/segment-spans.ts'
import { segmentNumberOf, type TimelineWal } from '../catalog/wal-ranges.ts'
import { timelineName } from '../postgres/wal-file.ts'
import { type LostWindow, lostWindows, type Whole, withoutBackups, withoutSegments } from './lost-windows.ts'
import type { Place } from './places.ts'
import { ownSegments } from './verify-wal.ts'

/** What can no longer be done because of a damaged object. */
export interface Consequence {
  text: string
  /** The backups that cannot be restored, or not become consistent, without it. */
  backups: string[]
  /** Moments that nothing else leads to. */
  windows: LostWindow[]
}

/**
 * What a damaged object costs. Pure.
 * @param facts of an object of a backup, what the record has; of WAL, when the first of it was stored, or what is before it
 */
export function consequenceOf(
  whole: Whole,
  place: Place,
  { object, storedAt }: { object?: BackupObject | LogicalObject | undefined; storedAt?: string | undefined },
): Consequence {
  switch (place.kind) {
    case 'marker':
      return nothing('pgrecall takes this for no repository, and neither restores from it nor writes to it')
    case 'identity':
      return nothing(
        'nothing of this cluster can be listed, restored or archived here, as it is not known whose it is',
      )
    case 'wal':
      return ofWal(whole, place.file, storedAt)
    case 'missing':
      return ofSegments(whole, place.timeline, place, storedAt)
    case 'object':
      return ofObject(whole, place.backup, object)
    default:
      return ofBackup(whole, place.backup)
  }
}

const nothing = (text: string): Consequence => ({ text, backups: [], windows: [] })

function ofObject(whole: Whole, id: string, object: BackupObject | LogicalObject | undefined): Consequence {
  switch (object?.kind) {
    case 'text':
      return nothing(
        `the instructions for restoring ${id} by hand are lost; "pgrecall restore" does not need them`,
      )
    case 'index':
      return ofIndex(whole, id)
    case 'contents':
      return nothing(`what is in ${id} cannot be shown; restoring it does not need that`)
    case 'fingerprint':
      return nothing(`a restore of ${id} cannot be compared with what was dumped`)
    case 'globals':
      return {
        ...nothing(`roles and tablespaces of ${id} cannot be restored; its databases can, with --no-globals`),
        backups: [id],
      }
    case 'dump':
      return ofDump(whole, id, object.database)
    default:
      return ofBackup(whole, id)
  }
}

function ofDump({ logical }: Whole, id: string, oid: string | undefined): Consequence {
  const databases = logical.find((backup) => backup.id === id)?.databases ?? []
  const name = databases.find((database) => database.oid === oid)?.name
  const others = databases.length > 1 ? '; its other databases can' : ''
  return { ...nothing(`database "${name}" cannot be restored from ${id}${others}`), backups: [id] }
}

/** A full backup is restored whole without its indexes. */
function ofIndex(whole: Whole, id: string): Consequence {
  const backup = whole.backups.find((candidate) => candidate.id === id)
  const lost = backup?.parent ? withDescendants(whole, id) : descendantsOf(whole, id)
  const rest = `single databases and --delta cannot be restored from ${id}`
  if (lost.length === 0) return nothing(`${rest}; all of it can`)
  return withWindows(whole, lost, `${namesOf(lost)} cannot be restored, and ${rest}`)
}

function ofBackup(whole: Whole, id: string): Consequence {
  const isLogical = whole.logical.some((backup) => backup.id === id)
  if (isLogical) return { ...nothing(`${id} cannot be restored`), backups: [id] }
  const lost = withDescendants(whole, id)
  const above = lost.length - 1
  const also =
    above > 0 ? `, nor ${above === 1 ? 'the one that builds' : `the ${above} that build`} upon it` : ''
  return withWindows(whole, lost, `${id} cannot be restored${also}`)
}

function withWindows(whole: Whole, lost: readonly string[], text: string): Consequence {
  const windows = lostWindows(whole, withoutBackups(whole, lost))
  const rest =
    windows.length === 0 ? 'every moment can still be recovered, from other backups' : lossText(windows)
  const isPhysical = lost.some((id) => whole.backups.some((backup) => backup.id === id))
  return { text: isPhysical ? `${text}; ${rest}` : text, backups: [...lost], windows }
}

function descendantsOf({ backups }: Whole, id: string): string[] {
  const chains = new Chains(backups)
  return backups
    .filter((backup) => chains.ancestorsOf(backup).some((below) => below.id === id))
    .map((b) => b.id)
}

const withDescendants = (whole: Whole, id: string) => [id, ...descendantsOf(whole, id)]

function ofWal(
  whole: Whole,
  file: Extract<Place, { kind: 'wal' }>['file'],
  storedAt: string | undefined,
): Consequence {
  switch (file.kind) {
    case 'segment': {
      const number = segmentNumberOf(file.name, whole.walSegmentBytes)
      return ofSegments(whole, file.timeline, { first: number, last: number }, storedAt)
    }
    case 'history':
      return ofHistory(whole, file.timeline)
    case 'partial':
      return nothing(
        `what was written to timeline ${file.timeline} last, before it was left, cannot be recovered from it`,
      )
    case 'receiving':
      return nothing(
        `the newest WAL, which was still being received, is lost until ${file.name} is stored whole`,
      )
    case 'backup':
      return nothing('nothing that a restore needs: it tells people where a backup began')
    case 'dropped':
      return nothing('nothing that a restore needs: it tells people why a segment is missing')
  }
}

function ofSegments(whole: Whole, timeline: number, span: Span, storedAt: string | undefined): Consequence {
  const needing = whole.backups.filter((backup) => needs(backup, timeline, span))
  const windows = lostWindows(whole, withoutSegments(whole, timeline, span), storedAt)
  const own =
    needing.length === 0
      ? ''
      : `${namesOf(needing.map(({ id }) => id))} cannot become consistent without it; `
  const across = `no recovery on timeline ${timelineName(timeline)} goes across it`
  return {
    text: `${own}${across}${windows.length > 0 ? `: ${lossText(windows)}` : ''}`,
    backups: needing.map(({ id }) => id),
    windows,
  }
}

/** What builds upon a backup has WAL of its own, and is restored without that of the one below. */
function needs(backup: BackupSummary, timeline: number, { first, last }: Span): boolean {
  const own = backup.timeline === timeline ? ownSegments(backup) : undefined
  return own !== undefined && own.first <= last && first <= own.last
}

function ofHistory(whole: Whole, timeline: number): Consequence {
  const lost = whole.backups.filter((backup) => backup.timeline === timeline).map(({ id }) => id)
  const wal = whole.wal.map((entry) => (entry.timeline === timeline ? withoutHistory(entry) : entry))
  const windows = lostWindows(whole, { ...whole, wal })
  const text = `no recovery leads to timeline ${timeline}`
  return { text: windows.length > 0 ? `${text}: ${lossText(windows)}` : text, backups: lost, windows }
}

function withoutHistory({ history: _history, ...entry }: TimelineWal): TimelineWal {
  return { ...entry, hasHistory: false }
}

function namesOf(ids: readonly string[]): string {
  return ids.length <= 3 ? ids.join(', ') : `${ids.slice(0, 2).join(', ')} and ${ids.length - 2} more backups`
}

function lossText(windows: readonly LostWindow[]): string {
  const texts = windows.slice(0, 2).map(({ from, until }) => (from === until ? from : `${from} to ${until}`))
  const more = windows.length > 2 ? ` and ${windows.length - 2} more` : ''
  return `lost is the recovery to moments ${texts.join(', ')}${more}`
}
