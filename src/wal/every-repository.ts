import type { Repository } from '../catalog/repository.ts'
import { type ErrorKind, PgrecallError, reasonOf } from '../errors.ts'

/** What came of doing something in an optional repository that could not be done. */
export type Shortfall =
  | { result: 'failed'; kind: ErrorKind; reason: string }
  /** It failed before, in the same call, and was not tried again. */
  | { result: 'skipped' }

export type Answer<T> = { name: string } & ({ result: T } | Shortfall)

/** Which of the repositories, by their place in the list, have failed in a call. Threads share it. */
export type AwayMarks = Int32Array<SharedArrayBuffer>

/** How long optional repositories are waited for when the required ones are done. */
export const OPTIONAL_PATIENCE_MS = 10_000

export function nobodyAway(repositories: readonly Repository[]): AwayMarks {
  return new Int32Array(new SharedArrayBuffer(4 * Math.max(1, repositories.length)))
}

/** What came of doing something in all repositories. */
export interface Outcome<T> {
  /** In the order of the repositories; those of required ones that failed are left out. */
  answers: Answer<T>[]
  /** What the first required one failed with. */
  failure: { error: unknown } | undefined
  /** Whether one was given up that may still be at work. */
  isAbandoned: boolean
}

/**
 * Does something in all repositories at once. None that is slow holds up another; for the optional ones there is a limit,
 * and one that has failed is left alone for the rest of the call.
 * @param work gets a signal that tells it to give up
 */
export async function inEveryRepository<T extends string>(
  repositories: readonly Repository[],
  work: (repository: Repository, signal: AbortSignal | undefined) => Promise<T>,
  { signal, away }: { signal: AbortSignal | undefined; away: AwayMarks },
): Promise<Outcome<T>> {
  const patience = new AbortController()
  const ask = async (repository: Repository, index: number): Promise<Answer<T>> => {
    const { name, required } = repository
    if (required) return { name, result: await work(repository, signal) }
    if (Atomics.load(away, index) === 1) return { name, result: 'skipped' }
    const limit = signal ? AbortSignal.any([signal, patience.signal]) : patience.signal
    try {
      return { name, result: await orAborted(work(repository, limit), patience.signal) }
    } catch (error) {
      const kind = error instanceof PgrecallError ? error.kind : 'internal'
      // What is wrong with one file says nothing of the next one.
      if (kind !== 'conflict' && kind !== 'damaged') Atomics.store(away, index, 1)
      return { name, result: 'failed', kind, reason: reasonOf(error) }
    }
  }
  const asked = repositories.map(ask)
  await Promise.allSettled(asked.filter((_, index) => repositories[index]!.required))
  const timer = setTimeout(
    () => patience.abort(new PgrecallError('repository', NO_ANSWER)),
    OPTIONAL_PATIENCE_MS,
  )
  const outcomes = await Promise.allSettled(asked)
  clearTimeout(timer)
  const failed = outcomes.find((outcome) => outcome.status === 'rejected')
  return {
    answers: outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : [])),
    failure: failed && { error: failed.reason },
    isAbandoned: patience.signal.aborted,
  }
}

const NO_ANSWER = `it did not answer within ${OPTIONAL_PATIENCE_MS / 1000} s`

/** What hangs may not even notice that it is told to give up. */
async function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const giveUp = () => reject(signal.reason)
  signal.addEventListener('abort', giveUp)
  try {
    return await Promise.race([work, aborted])
  } finally {
    signal.removeEventListener('abort', giveUp)
  }
}

/** What optional repositories lack after a call: a warning for each. */
export class Shortfalls {
  readonly #found = new Map<string, { files: number; first: string; reason: string }>()

  add(file: string, answers: readonly Answer<string>[]): void {
    for (const answer of answers) {
      if (answer.result !== 'failed' && answer.result !== 'skipped') continue
      const found = this.#found.get(answer.name) ?? { files: 0, first: file, reason: '' }
      found.files++
      if (file < found.first) found.first = file
      if ('reason' in answer) found.reason ||= answer.reason
      this.#found.set(answer.name, found)
    }
  }

  get warnings(): string[] {
    return [...this.#found].map(([name, { files, first, reason }]) => {
      const what = files === 1 ? first : `${files} files, the first of them ${first}`
      return `the optional repository "${name}" lacks ${what}${reason && `: ${reason}`}; "pgrecall copy" brings it later`
    })
  }
}
