import { unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { PgrecallError, reasonOf, systemCode } from '../errors.ts'
import { Acknowledgements } from './acknowledge.ts'
import { type AwayMarks, OPTIONAL_PATIENCE_MS } from './every-repository.ts'
import { type PushResult, type PushTarget, WalPusher } from './push.ts'
import type { Circumstances } from './spool.ts'

/** What all lanes of a batch work on; plain data, which crosses to other threads. */
export interface Batch {
  /** Where the files lie. */
  folder: string
  /** Their names, in the order in which they are begun. */
  names: readonly string[]
  /** Two numbers that all lanes share: which name is the next, and whether to stop. */
  counters: Int32Array
  /** Optional repositories that have failed are not tried again. */
  away: AwayMarks
  /** How many files one lane has under way: while one is on its way to the disk, the next is compressed. */
  sideBySide: number
  /** After this moment nothing is begun but the first file; milliseconds since 1970. Later, where a repository is away. */
  untilMs: number
  /** The file is removed once it is stored. */
  remove: boolean
  /** What an acknowledgement is good for; none are written when left out. */
  circumstances: Circumstances | undefined
}

/** A file that was stored has a result; with an error too, it could not be removed. */
export interface LaneAnswer {
  name: string
  result?: PushResult
  error?: unknown
}

export function newCounters(): Int32Array {
  return new Int32Array(new SharedArrayBuffer(8))
}

/** Asks every lane to begin nothing more. */
export function stopLanes({ counters }: Pick<Batch, 'counters'>): void {
  Atomics.store(counters, 1, 1)
}

/** Pushes files of a batch until none is left. What fails is told, and only a required repository that fails stops the others. */
export async function runLane(
  batch: Batch,
  target: PushTarget,
  answer: (answer: LaneAnswer) => void,
): Promise<void> {
  const notes =
    batch.circumstances && new Acknowledgements(batch.circumstances, target.cluster, target.repositories)
  const run = async () => {
    const pusher = new WalPusher(target, batch.away)
    for (let name = nextName(batch); name !== undefined; name = nextName(batch)) {
      try {
        const result = await pusher.push(join(batch.folder, name))
        if (notes) note(notes, name, result.changedAtNs)
        const error = batch.remove ? await removeStored(join(batch.folder, name)) : undefined
        answer({ name, result, ...(error && { error }) })
      } catch (error) {
        if (error instanceof PgrecallError && error.kind === 'repository') stopLanes(batch)
        answer({ name, error })
      }
    }
  }
  await Promise.all(Array.from({ length: batch.sideBySide }, run))
}

/** @returns what kept it from being removed */
async function removeStored(path: string): Promise<PgrecallError | undefined> {
  try {
    await unlink(path)
    return undefined
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    return new PgrecallError('failed', `${path} is stored, but cannot be removed: ${reasonOf(error)}`, {
      hint: 'this user needs to be able to write the folder',
    })
  }
}

/** A note that cannot be written, on a full disk, only costs the next call its start. */
function note(notes: Acknowledgements, name: string, changedAtNs: bigint): void {
  try {
    notes.add(name, changedAtNs)
  } catch {}
}

function nextName({ names, counters, untilMs, away }: Batch): string | undefined {
  if (Atomics.load(counters, 1) === 1) return undefined
  const index = Atomics.add(counters, 0, 1)
  // All of the time may have gone by while an optional repository was waited for.
  const waitedMs = away.some((mark) => mark === 1) ? OPTIONAL_PATIENCE_MS : 0
  return index === 0 || Date.now() < untilMs + waitedMs ? names[index] : undefined
}
