import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { addressOf } from '../catalog/open-repository.ts'
import { unwrap } from '../threads/carried-error.ts'
import { runCrew, workerScript } from '../threads/crew.ts'
import { nobodyAway } from './every-repository.ts'
import type { PushTarget } from './push.ts'
import { type Batch, type LaneAnswer, newCounters, runLane, stopLanes } from './push-lane.ts'
import type { PushMessage, PushWorkerData } from './push-worker.ts'

/** A thread takes some time to start; fewer files than this are not worth another. */
const FILES_PER_THREAD = 4
/** While one file of a lane is on its way to the disk, the next one is compressed. */
const SIDE_BY_SIDE = 2
/** Files are held in memory twice, plain and compressed: so many plain bytes of them at most, or one file. */
const HELD_BYTES = 256 * 1024 * 1024

/**
 * Pushes many files with several threads, each read and compressed once, whatever the number of repositories.
 * @param jobs how many threads at most, this one among them
 * @param onAnswer is called for each file that was begun, in the order in which they end
 * @returns what made a thread fail, when one did; that a file could not be pushed is an answer
 */
export async function pushBatch(
  batch: Omit<Batch, 'counters' | 'away' | 'sideBySide'>,
  target: PushTarget & { signal: AbortSignal },
  jobs: number,
  onAnswer: (answer: LaneAnswer) => void,
): Promise<{ error: unknown } | undefined> {
  const sizes = await Promise.all(batch.names.map((name) => bytesOf(join(batch.folder, name))))
  const { threads, sideBySide } = lanesFor(sizes, jobs)
  const away = nobodyAway(target.repositories)
  const shared: Batch = { ...batch, sideBySide, counters: newCounters(), away }
  const repositories = await Promise.all(
    target.repositories.map((repository) => addressOf(repository, 'write')),
  )
  const stop = () => stopLanes(shared)
  target.signal.addEventListener('abort', stop, { once: true })
  try {
    const ends = await Promise.allSettled([
      runLane(shared, target, onAnswer),
      runCrew(workerScript('push-worker', import.meta.url), threads - 1, {
        data: (): PushWorkerData => ({
          batch: shared,
          cluster: target.cluster,
          level: target.level,
          repositories,
        }),
        onMessage: ({ name, result, failure }: PushMessage) =>
          onAnswer({ name, ...(result && { result }), ...(failure && { error: unwrap(failure) }) }),
        onStop: stop,
        signal: target.signal,
      }),
    ])
    const failed = ends.find((end) => end.status === 'rejected')
    return failed && { error: failed.reason }
  } finally {
    target.signal.removeEventListener('abort', stop)
  }
}

/**
 * How many threads push, and how many files each has under way, within what memory allows.
 * @param sizes of all files, bytes
 */
export function lanesFor(sizes: readonly number[], jobs: number): { threads: number; sideBySide: number } {
  const largest = sizes.reduce((most, bytes) => Math.max(most, bytes), 1)
  const atOnce = Math.max(1, Math.floor(HELD_BYTES / largest))
  const threads = Math.max(1, Math.min(jobs, atOnce, Math.ceil(sizes.length / FILES_PER_THREAD)))
  return { threads, sideBySide: Math.max(1, Math.min(SIDE_BY_SIDE, Math.floor(atOnce / threads))) }
}

async function bytesOf(path: string): Promise<number> {
  return (await stat(path).catch(() => undefined))?.size ?? 0
}
