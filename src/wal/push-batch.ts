import { unwrap } from '../threads/carried-error.ts'
import { runCrew, workerScript } from '../threads/crew.ts'
import type { PushTarget } from './push.ts'
import { type Batch, type LaneAnswer, newCounters, runLane, stopLanes } from './push-lane.ts'
import type { PushMessage, PushWorkerData } from './push-worker.ts'

/** A thread takes some time to start; fewer files than this are not worth another. */
const FILES_PER_THREAD = 4

/**
 * Pushes many files with several threads, each read and compressed once, whatever the number of repositories.
 * @param jobs how many threads at most, this one among them
 * @param onAnswer is called for each file that was begun, in the order in which they end
 * @throws what made a thread fail; that a file could not be pushed is an answer
 */
export async function pushBatch(
  batch: Omit<Batch, 'counters'>,
  target: PushTarget & { signal: AbortSignal },
  jobs: number,
  onAnswer: (answer: LaneAnswer) => void,
): Promise<void> {
  const shared: Batch = { ...batch, counters: newCounters() }
  const threads = Math.min(jobs, Math.ceil(batch.names.length / FILES_PER_THREAD))
  const stop = () => stopLanes(shared)
  target.signal.addEventListener('abort', stop, { once: true })
  try {
    await Promise.all([
      runLane(shared, target, onAnswer),
      runCrew(workerScript('push-worker', import.meta.url), threads - 1, {
        data: (): PushWorkerData => ({
          batch: shared,
          cluster: target.cluster,
          level: target.level,
          repositories: target.repositories.map(({ name, storage }) => ({ name, address: storage.address })),
        }),
        onMessage: ({ name, result, failure }: PushMessage) =>
          onAnswer(result ? { name, result } : { name, error: unwrap(failure!) }),
        onStop: stop,
        signal: target.signal,
      }),
    ])
  } finally {
    target.signal.removeEventListener('abort', stop)
  }
}
