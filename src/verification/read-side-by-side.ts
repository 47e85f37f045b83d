import { addressOf } from '../catalog/open-repository.ts'
import type { Repository, RepositoryAddress } from '../catalog/repository.ts'
import { PgrecallError } from '../errors.ts'
import type { Events } from '../events.ts'
import { unwrap } from '../threads/carried-error.ts'
import { runCrew, workerScript } from '../threads/crew.ts'
import type { ReadJob, ReadResult } from './read-job.ts'
import { COUNTER, type NumberedJob, type ReadMessage, type ReadWorkerData } from './read-worker.ts'

export interface ReadOptions {
  /** How many threads. */
  jobs: number
  /** What the progress is called, and the stored bytes of all jobs. */
  task: string
  total: number
  events: Events
  signal: AbortSignal
}

/** A job, and who is told what came of it. */
export interface Reading {
  job: ReadJob
  onResult: (result: ReadResult) => void
}

/**
 * Has threads read what is given out one after the other, no more of it in memory than is under way.
 * @throws what the first thread failed with; PgrecallError `repository` when there is no answer
 */
export async function readSideBySide(
  repository: Repository,
  readings: AsyncGenerator<Reading>,
  { jobs, task, total, events, signal }: ReadOptions,
): Promise<void> {
  const counters = new BigInt64Array(new SharedArrayBuffer(2 * 8))
  const data: ReadWorkerData = { repository: await readableAddress(repository), counters }
  const waiting = new Map<number, Reading['onResult']>()
  let begun = 0
  let items = 0
  const next = async (): Promise<NumberedJob | undefined> => {
    const { value, done } = await readings.next()
    if (done) return undefined
    const number = begun++
    waiting.set(number, value.onResult)
    return { number, job: value.job }
  }
  const report = () => {
    const bytes = Number(Atomics.load(counters, COUNTER.bytes))
    events.emit('progress', { task, bytes, total, items })
  }
  const timer = setInterval(report, 100)
  try {
    await runCrew(workerScript('read-worker', import.meta.url), jobs, {
      data: () => data,
      onMessage: (message: ReadMessage, worker, fail) => {
        if (message.kind === 'failed') fail(unwrap(message.error))
        else if (message.kind === 'next') next().then((job) => worker.postMessage(job), fail)
        else {
          items += message.result.objects
          waiting.get(message.number)!(message.result)
          waiting.delete(message.number)
        }
      },
      onStop: () => Atomics.store(counters, COUNTER.stop, 1n),
      signal,
    })
    report()
  } finally {
    clearInterval(timer)
    await readings.return(undefined)
    events.emit('progressEnd', { task })
  }
}

/** Without a secret key, what is encrypted is summed up as it is. */
async function readableAddress(repository: Repository): Promise<RepositoryAddress> {
  return addressOf(repository, 'read').catch((error) => {
    if (error instanceof PgrecallError && error.kind === 'key') return addressOf(repository, 'write')
    throw error
  })
}
