import { open, rename, rm } from 'node:fs/promises'
import { setTimeout as wait } from 'node:timers/promises'
import type { Repository } from '../catalog/repository.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import { ArchiveHole, type ReadOptions, readArchivedFile } from './read.ts'
import { usedBytes } from './received-deposit.ts'

export interface FetchRequest {
  /** PostgreSQL's `%f`. */
  name: string
  /** PostgreSQL's `%p`, made absolute. */
  destination: string
  cluster: string
  repositories: readonly Repository[]
  /** Whether a hole in the archive at this segment is no harm, since the server has the segment itself. */
  isHoleFilled: boolean
  /** Whether the segment must be in the archive, whatever else is stored there; see `isBeforeSwitch`. */
  isExpected: boolean
  /** How long to wait before each further try when no repository gives an answer. */
  retryDelaysMs: readonly number[]
  signal?: AbortSignal
  onRetry?: (error: unknown, delayMs: number) => void
}

/** An interactive recovery can wait for an outage to pass; a standby asks again by itself. */
export const RECOVERY_RETRIES_MS = [500, 1000, 2000, 4000, 8000]
export const STANDBY_RETRIES_MS = [500, 1000]

/**
 * Brings one file out of the archive to where PostgreSQL wants it, checked, by rename.
 * @returns the repository that had it, or undefined when every repository answered that it is not there
 * @throws PgrecallError when a repository gave no answer and no other has the file: an error is never "not there"
 */
export async function fetchWalFile(request: FetchRequest): Promise<string | undefined> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await fetchOnce(request)
    } catch (error) {
      const delay = request.retryDelaysMs[attempt]
      if (!isWorthRetrying(error) || delay === undefined) throw error
      request.onRetry?.(error, delay)
      await wait(delay, undefined, request.signal && { signal: request.signal })
    }
  }
}

async function fetchOnce(request: FetchRequest): Promise<string | undefined> {
  const { name, destination, isExpected, isHoleFilled } = request
  // The beginning of a segment would end a recovery too that is to go on behind it.
  const found = await readFromAny(request, { wholeOnly: isExpected })
  if (found) await place(found.plain, destination)
  else if (isExpected && !isHoleFilled) throw missingBeforeSwitch(name)
  return found?.repository
}

const missingBeforeSwitch = (name: string) =>
  new ArchiveHole(
    `${name} is missing from the archive, and the recovery is to leave its timeline only after it`,
    { hint: 'archive the segment from a server that still has it, or restore to a moment before it' },
  )

type Question = Pick<FetchRequest, 'name' | 'cluster' | 'repositories' | 'isHoleFilled' | 'signal'>

/**
 * Asks one repository after the other for a file, without waiting long for one that is slow or away. A segment that is still being received counts only when no repository
 * has the whole one, and then as far as any of them has it.
 * @returns undefined when every repository answered that it is not there
 * @throws PgrecallError when a repository gave no answer and no other has the file
 */
export async function readFromAny(
  request: Question,
  options: ReadOptions = {},
): Promise<{ plain: Buffer; repository: string } | undefined> {
  for await (const whole of answers(request, { wholeOnly: true })) return whole
  if (options.wholeOnly) return undefined
  let longest: { plain: Buffer; repository: string } | undefined
  for await (const answer of answers(request, {})) {
    if (!longest || usedBytes(answer.plain) > usedBytes(longest.plain)) longest = answer
  }
  return longest
}

/** What the repositories have. @throws at the end what kept one of them from an answer */
async function* answers(request: Question, options: ReadOptions) {
  const { name, cluster, repositories, isHoleFilled } = request
  const enough = new AbortController()
  const signal = request.signal ? AbortSignal.any([request.signal, enough.signal]) : enough.signal
  const ask = async (repository: Repository) => {
    try {
      const plain = await readArchivedFile(repository, cluster, name, signal, options)
      return { plain, repository: repository.name }
    } catch (failure) {
      return { failure, plain: undefined, repository: repository.name }
    }
  }
  let failure: unknown
  try {
    for await (const answer of askInTurn(repositories, ask)) {
      if (answer.plain) yield { plain: answer.plain, repository: answer.repository }
      else if ('failure' in answer && !(isHoleFilled && answer.failure instanceof ArchiveHole))
        failure ??= answer.failure
    }
  } finally {
    enough.abort()
  }
  if (failure) throw failure
}

/** A recovery must not wait for a store that is away at each segment: after so long the next one is asked as well. */
const TURN_MS = 1500

/** The answers as they arrive. The next one is asked when all before have answered, or one takes its time. */
async function* askInTurn<From, Answer>(
  all: readonly From[],
  ask: (one: From) => Promise<Answer>,
): AsyncGenerator<Answer> {
  const open = new Map<From, Promise<{ from: From; answer: Answer }>>()
  for (let asked = 0; asked < all.length || open.size > 0; ) {
    const arrivals = [...open.values()]
    const turn = open.size > 0 && asked < all.length ? [wait(TURN_MS, undefined, { ref: false })] : []
    const first = open.size > 0 ? await Promise.race([...arrivals, ...turn]) : undefined
    if (first) {
      open.delete(first.from)
      yield first.answer
    } else {
      const from = all[asked++]!
      open.set(
        from,
        ask(from).then((answer) => ({ from, answer })),
      )
    }
  }
}

/**
 * The name of the unfinished file is always the same: PostgreSQL runs one restore_command at a time, so what a killed
 * call left is overwritten by the next. PostgreSQL itself syncs the segments that it keeps.
 */
async function place(plain: Buffer, destination: string): Promise<void> {
  const temporary = `${destination}.pgrecall`
  try {
    const handle = await open(temporary, 'w', 0o600)
    try {
      await handle.writeFile(plain)
    } finally {
      await handle.close()
    }
    await rename(temporary, destination)
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {})
    throw new PgrecallError('failed', `cannot write ${destination}: ${reasonOf(error)}`, {
      hint: 'the path is relative to the data directory; is the disk full?',
      cause: error,
    })
  }
}

/** A hole is one only when it stays: the server archives several segments side by side. */
const isWorthRetrying = (error: unknown) =>
  error instanceof ArchiveHole || (error instanceof PgrecallError && error.kind === 'repository')
