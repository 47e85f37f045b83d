import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { readControlFile } from '../postgres/pg-control.ts'
import { parseHistory, type TimelineHistory } from '../postgres/timeline-history.ts'
import { numberOf, parseWalFile, segmentNumber } from '../postgres/wal-file.ts'
import { describeSegmentMismatch } from '../postgres/wal-page.ts'

/**
 * Whether the data directory itself has a segment, as that of a standalone backup does: PostgreSQL asks the archive
 * first, and takes its own copy when it is told that there is none.
 */
export async function holdsOwnCopy(dataDirectory: string, name: string): Promise<boolean> {
  const file = parseWalFile(name)
  if (file?.kind !== 'segment') return false
  const bytes = await readFile(join(dataDirectory, 'pg_wal', name)).catch(() => undefined)
  return bytes !== undefined && describeSegmentMismatch(file, bytes) === undefined
}

/**
 * Whether a recovery is to leave a segment's timeline only after it, so that the segment must be in the archive. Without
 * it, PostgreSQL would end the recovery on the old timeline and open the database there. What it recovers along is the
 * history that it has put into `pg_wal`; in the archive are those of other ways too.
 * @see readTimeLineHistory in src/backend/access/transam/timeline.c
 */
export async function isBeforeSwitch(dataDirectory: string, name: string): Promise<boolean> {
  const file = parseWalFile(name)
  if (file?.kind !== 'segment') return false
  const control = await readFile(join(dataDirectory, 'global/pg_control')).then(
    readControlFile,
    () => undefined,
  )
  if (!control) return false
  const number = numberOf(file, control.walSegmentBytes)
  const holds = (position: bigint) => segmentNumber(position, control.walSegmentBytes)
  for (const history of await historiesIn(join(dataDirectory, 'pg_wal'))) {
    const stretch = history.find(({ timeline }) => timeline === file.timeline)
    if (stretch?.end !== undefined && holds(stretch.begin) <= number && number < holds(stretch.end))
      return true
  }
  return false
}

async function historiesIn(folder: string): Promise<TimelineHistory[]> {
  const files = (await readdir(folder).catch(() => [])).flatMap((name) => parseWalFile(name) ?? [])
  const histories = files.filter(({ kind }) => kind === 'history')
  return Promise.all(
    histories.map(async ({ name, timeline }) =>
      parseHistory(await readFile(join(folder, name), 'utf8'), timeline),
    ),
  )
}
