import { z } from 'zod'
import { readObject, type Storage } from '../storage/storage.ts'
import { FORMAT } from './identity.ts'
import { thinnedWalKey } from './layout.ts'
import type { TimelineWal } from './wal-ranges.ts'

/** Of a timeline, WAL before a segment was let go on purpose, but for what makes backups consistent. */
export interface ThinnedTimeline {
  timeline: number
  /** The name of the first segment behind. */
  before: string
}

const NoteSchema = z.object({
  format: z.literal(FORMAT),
  timelines: z.array(
    z.object({ timeline: z.number().int().min(1), before: z.string().regex(/^[0-9A-F]{24}$/) }),
  ),
})

/** What retention has noted. A note that cannot be read says nothing: then what is missing is taken for lost. */
export async function readThinnedWal(storage: Storage, cluster: string): Promise<ThinnedTimeline[]> {
  const bytes = await readObject(storage, thinnedWalKey(cluster))
  try {
    return NoteSchema.parse(JSON.parse(bytes?.toString('utf8') ?? '')).timelines
  } catch {
    return []
  }
}

/** Notes what is going to be missing, before it goes: nobody shall take it for lost. What was noted before stays noted. */
export async function noteThinnedWal(
  storage: Storage,
  cluster: string,
  more: readonly ThinnedTimeline[],
): Promise<void> {
  const known = new Map(
    (await readThinnedWal(storage, cluster)).map(({ timeline, before }) => [timeline, before]),
  )
  const further = more.filter(({ timeline, before }) => before > (known.get(timeline) ?? ''))
  if (further.length === 0) return
  for (const { timeline, before } of further) known.set(timeline, before)
  const timelines = [...known]
    .toSorted(([a], [b]) => a - b)
    .map(([timeline, before]) => ({ timeline, before }))
  await storage.put(thinnedWalKey(cluster), Buffer.from(`${JSON.stringify({ format: FORMAT, timelines })}\n`))
}

/** The WAL of all timelines, with what was noted. */
export function withThinned(wal: readonly TimelineWal[], thinned: readonly ThinnedTimeline[]): TimelineWal[] {
  return wal.map((entry) => {
    const { thinnedBefore: _outdated, ...rest } = entry
    const note = thinned.find(({ timeline }) => timeline === entry.timeline)
    return note ? { ...rest, thinnedBefore: note.before } : rest
  })
}
