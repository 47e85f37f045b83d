import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { Events } from '../events.ts'
import { parseWalFile } from '../postgres/wal-file.ts'
import { Acknowledgements, sweepAcknowledged } from './acknowledge.ts'
import { Shortfalls } from './every-repository.ts'
import { deliverGivenUp, giveUp } from './given-up.ts'
import { type PushResult, type PushTarget, pushWalFile } from './push.ts'
import { pushBatch } from './push-batch.ts'
import type { LaneAnswer } from './push-lane.ts'
import { sweepReady } from './ready-segments.ts'
import { runningServer } from './running-server.ts'
import { type CallFacts, type Circumstances, circumstancesOf } from './spool.ts'
import { waitingFiles } from './waiting.ts'

export interface ArchiveRequest extends PushTarget, CallFacts {
  /** What PostgreSQL asks for. */
  name: string
  /** How many other files are archived along at most. */
  batch: number
  jobs: number
  /** From so many bytes of waiting WAL on, what cannot be stored is given up. */
  queueMax: number | undefined
  signal: AbortSignal
}

/** PostgreSQL waits for the call, also when it is to shut down: after so long nothing more is begun. */
const BATCH_MS = 10_000

/**
 * Answers PostgreSQL's archiver for one file, and archives what else waits while it is at it. What was stored beyond the
 * file that was asked for is noted, so that the launcher can answer for it.
 * @returns the result, or undefined when the file was given up
 * @throws PgrecallError when the file is not stored in every required repository; the others' failures are theirs to tell
 *   when PostgreSQL asks for them
 */
export async function archiveWaiting(
  request: ArchiveRequest,
  events: Events,
): Promise<PushResult | undefined> {
  // Without the list only what is asked for is archived; if there is more to say, that says it.
  const waiting = await waitingFiles(request.root).catch(() => [])
  await sweepReady(request.root).catch(() => {})
  const circumstances = prepareNotes(request, waiting)
  const others = companions(request, waiting, circumstances)
  let result: PushResult
  try {
    result = await archive(request, others, circumstances, events)
  } catch (error) {
    // What is wrong with the file itself, or with what is stored under its name, is for people to mend.
    const isAway = error instanceof PgrecallError && error.kind === 'repository'
    if (!isAway || request.signal.aborted || !(await isQueueFull(request, waiting, circumstances)))
      throw error
    await giveUp(request.root, request.name, reasonOf(error))
    events.emit('warning', {
      text: `${request.name} was given up: more than wal.queueMax waits to be archived, and ${reasonOf(error)}`,
    })
    return undefined
  }
  await deliverGivenUp(request.root, request).catch((error) =>
    events.emit('warning', {
      text: `the repositories could not be told what was given up, which the next call does: ${reasonOf(error)}`,
    }),
  )
  return result
}

/** Removes notes that have served, and says what new ones are good for; nothing where there can be none. */
function prepareNotes(request: ArchiveRequest, waiting: readonly string[]): Circumstances | undefined {
  try {
    sweepAcknowledged(request.root, new Set(waiting), request.repositories)
    const server = runningServer(request.root)
    if (server === undefined || waiting.every((name) => name === request.name)) return undefined
    const circumstances = circumstancesOf(request)
    // Under another start of a server, be it of a copy or after a restore, nothing is believed.
    return circumstances && { ...circumstances, lines: [...circumstances.lines, server] }
  } catch {
    return undefined
  }
}

/** What is archived along: the next files that wait and are not noted yet. */
function companions(
  request: ArchiveRequest,
  waiting: readonly string[],
  circumstances: Circumstances | undefined,
): string[] {
  if (!circumstances) return []
  const notes = notesOf(request, circumstances)
  const found: string[] = []
  for (const other of waiting) {
    if (found.length >= request.batch) break
    if (other !== request.name && !notes.holds(other)) found.push(other)
  }
  return found
}

function notesOf({ cluster, repositories }: ArchiveRequest, circumstances: Circumstances): Acknowledgements {
  return new Acknowledgements(circumstances, cluster, repositories)
}

async function archive(
  request: ArchiveRequest,
  others: readonly string[],
  circumstances: Circumstances | undefined,
  events: Events,
): Promise<PushResult> {
  const folder = join(request.root, 'pg_wal')
  const shortfalls = new Shortfalls()
  if (others.length === 0) {
    const result = await pushWalFile({ ...request, path: join(folder, request.name) })
    shortfalls.add(result.name, result.repositories)
    tellShortfalls(shortfalls, events)
    return result
  }
  let asked: LaneAnswer | undefined
  const batch = {
    folder,
    names: [request.name, ...others],
    untilMs: Date.now() + BATCH_MS,
    remove: false,
    circumstances,
  }
  const trouble = await pushBatch(batch, request, request.jobs, (answer) => {
    if (answer.result) shortfalls.add(answer.name, answer.result.repositories)
    if (answer.name === request.name) asked = answer
    else if (answer.result) {
      const { changedAtNs: _time, ...facts } = answer.result
      events.emit('detail', { text: `Archived ${answer.name} along`, facts })
    } else
      events.emit('detail', { text: `Could not archive ${answer.name} along: ${reasonOf(answer.error)}` })
  })
  tellShortfalls(shortfalls, events)
  if (trouble) events.emit('detail', { text: `A thread of the batch failed: ${reasonOf(trouble.error)}` })
  if (asked?.result) return asked.result
  throw asked?.error ?? trouble?.error ?? new PgrecallError('failed', `${request.name} was not archived`)
}

/** They land in the server's log. */
function tellShortfalls({ warnings }: Shortfalls, events: Events): void {
  for (const text of warnings) events.emit('warning', { text })
}

/** Whether more than `queueMax` waits that is not stored yet. */
async function isQueueFull(
  request: ArchiveRequest,
  waiting: readonly string[],
  circumstances: Circumstances | undefined,
): Promise<boolean> {
  const { root, queueMax } = request
  if (queueMax === undefined) return false
  const notes = circumstances && notesOf(request, circumstances)
  const segments = waiting.filter((name) => parseWalFile(name)?.kind === 'segment' && !notes?.holds(name))
  // All segments of a cluster have one size.
  for (const name of segments) {
    const facts = await stat(join(root, 'pg_wal', name)).catch(() => undefined)
    if (facts) return segments.length * facts.size > queueMax
  }
  return false
}
