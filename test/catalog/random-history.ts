import type { BackupSummary } from '../../src/catalog/backup-record.ts'
import { randomFrom } from '../random.ts'
import { increment, summary } from './stored.ts'

/** A run of stored segments. */
export interface Run {
  timeline: number
  first: number
  last: number
}

/** Backups of all types, oldest first, and the WAL that is archived. */
export interface History {
  backups: BackupSummary[]
  runs: Run[]
  /** Whole numbers that go on from where the history ended. */
  below: (limit: number) => number
}

/**
 * Days on which backups of all types are taken, over gaps in the WAL and changes of the timeline; chains are put together to
 * full ones; at the end some links are lost, or are other backups by now.
 */
export function randomHistory(seed: number): History {
  const random = randomFrom(seed)
  const below = (limit: number) => Math.floor(random() * limit)
  const backups: BackupSummary[] = []
  const runs: Run[] = []
  let position = 1 + below(600)
  let timeline = 1
  for (let day = 1, days = 1 + below(12); day <= days; day++) {
    const begin = position
    for (let count = below(3), hour = 0; hour < count; hour++) {
      const last = position + below(4)
      const moment = `202611${String(day).padStart(2, '0')}T12000${hour}Z`
      const backup = anyBackup(moment, { first: position, last, timeline }, backups, below)
      backups.push(backup)
      if (backup.parent && below(6) === 0) backups.push(putTogether(`${moment}-synth`, backup))
      position = last + below(300)
    }
    const before = runs.at(-1)
    if (before?.timeline === timeline && before.last === begin - 1) before.last = position - 1
    else if (position > begin) runs.push({ timeline, first: begin, last: position - 1 })
    position += below(3)
    if (below(4) === 0) {
      timeline++
      position = Math.max(1, position - below(100))
    }
  }
  const left = backups.filter(() => below(12) > 0)
  for (const backup of left) if (below(20) === 0) backup.start = { ...backup.start, lsn: '0/1' }
  return { backups: left, runs, below }
}

function anyBackup(
  moment: string,
  place: { first: number; last: number; timeline: number },
  before: readonly BackupSummary[],
  below: (limit: number) => number,
): BackupSummary {
  const type = (['full', 'incr', 'incr', 'diff'] as const)[below(4)]!
  const parents = type === 'diff' ? before.filter((other) => other.type === 'full') : before
  // Mostly the newest one, as where repositories hold different ones another may be.
  const parent = parents.at(-1 - (below(4) === 0 ? below(parents.length) : 0))
  if (type === 'full' || !parent) return summary(`${moment}-full`, place)
  return increment(`${moment}-${type}`, parent, place)
}

function putTogether(id: string, last: BackupSummary): BackupSummary {
  const { parent, increment: _changes, ...facts } = last
  return { ...facts, id, type: 'full', consolidatedFrom: [parent!.id, last.id] }
}
