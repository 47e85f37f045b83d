import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { Events } from '../events.ts'
import { parseWalFile } from '../postgres/wal-file.ts'
import { Acknowledgements, sweepAcknowledged } from './acknowledge.ts'
import { deliverGivenUp, giveUp } from './given-up.ts'
import { type PushResult, type PushTarget, pushWalFile } from './push.ts'
import { pushBatch } from './push-batch.ts'
import { LARGE_BYTES, type LaneAnswer } from './push-lane.ts'
import { sweepReady } from './ready-segments.ts'
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
 * @throws PgrecallError when the file is not stored in every repository; the others' failures are theirs to tell when
 *   PostgreSQL asks for them
 */
export async function archiveWaiting(
  request: ArchiveRequest,
  events: Events,
): Promise<PushResult | undefined> {
  // Without the list only what is asked for is archived; if there is more to say, that says it.
  const waiting = await waitingFiles(request.root).catch(() => [])
  await sweepReady(request.root).catch(() => {})
  const circumstances = prepareNotes(request, waiting)
  const others = await companions(request, waiting, circumstances)
  let result: PushResult
  try {
    result = await archive(request, others, circumstances, events)
  } catch (error) {
    if (request.signal.aborted || !(await isQueueFull(request, waiting))) throw error
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
    sweepAcknowledged(request.root, new Set(waiting))
    return waiting.some((name) => name !== request.name) ? circumstancesOf(request) : undefined
  } catch {
    return undefined
  }
}

/** What is archived along: the next files that wait and are not noted yet, as far as there is memory for them. */
async function companions(
  { root, name, batch, cluster, repositories }: ArchiveRequest,
  waiting: readonly string[],
  circumstances: Circumstances | undefined,
): Promise<string[]> {
  if (!circumstances) return []
  const notes = new Acknowledgements(
    circumstances,
    cluster,
    repositories.map(({ storage }) => storage.address),
  )
  const found: string[] = []
  for (const other of waiting) {
    if (found.length >= batch) break
    if (other === name || notes.holds(other)) continue
    if ((await bytesOf(root, other)) > LARGE_BYTES) continue
    found.push(other)
  }
  return found
}

async function archive(
  request: ArchiveRequest,
  others: readonly string[],
  circumstances: Circumstances | undefined,
  events: Events,
): Promise<PushResult> {
  const folder = join(request.root, 'pg_wal')
  if (others.length === 0) return pushWalFile({ ...request, path: join(folder, request.name) })
  let asked: LaneAnswer | undefined
  const batch = {
    folder,
    names: [request.name, ...others],
    sideBySide: 2,
    untilMs: Date.now() + BATCH_MS,
    remove: false,
    circumstances,
  }
  await pushBatch(batch, request, request.jobs, (answer) => {
    if (answer.name === request.name) asked = answer
    else if (answer.result) {
      const { changedAtNs: _time, ...facts } = answer.result
      events.emit('detail', { text: `Archived ${answer.name} along`, facts })
    } else
      events.emit('detail', { text: `Could not archive ${answer.name} along: ${reasonOf(answer.error)}` })
  })
  if (asked?.result) return asked.result
  throw asked?.error ?? new PgrecallError('failed', `${request.name} was not archived`)
}

async function isQueueFull({ root, queueMax }: ArchiveRequest, waiting: readonly string[]): Promise<boolean> {
  if (queueMax === undefined) return false
  const segments = waiting.filter((name) => parseWalFile(name)?.kind === 'segment')
  // All segments of a cluster have one size.
  return segments[0] !== undefined && segments.length * (await bytesOf(root, segments[0])) > queueMax
}

async function bytesOf(root: string, name: string): Promise<number> {
  return (await stat(join(root, 'pg_wal', name)).catch(() => undefined))?.size ?? 0
}
