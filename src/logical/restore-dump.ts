import { createWriteStream } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { ArchiveInput } from '../postgres/pg-restore.ts'
import { unpackFolder } from './restore-folder.ts'
import { startOf, withObject } from './restore-object.ts'
import type { DatabasePlan } from './restore-plan.ts'
import type { RestoreRun } from './restore-run.ts'

/** The dump of one database, to be read as often as somebody wants. Disposing removes what was put down of it. */
export interface Dump extends AsyncDisposable {
  /** All of it, compared with its sum once. */
  whole<Result>(use: (input: ArchiveInput) => Promise<Result>): Promise<Result>
  /** Enough of it for its list, and for what has no rows. */
  start(): ArchiveInput
}

/**
 * Opens a dump: it streams from the repository, unless it has to be put down, as a file for several sessions or as the folder
 * that it was.
 * @throws PgrecallError `damaged`, `key`
 */
export async function openDump(run: RestoreRun, plan: DatabasePlan): Promise<Dump> {
  const { backup, request, signal, staging } = run
  const { dumped, object } = plan
  const isFolder = object.archive === 'directory'
  if (!isFolder && request.jobs === 1)
    return {
      whole: (use) => withProgress(run, plan, (tell) => withObject(backup, object, signal, use, tell)),
      start: () => startOf(backup, object, signal),
      [Symbol.asyncDispose]: async () => {},
    }
  const file = join(staging!.path, `${dumped.oid}.dump`)
  const remove = () => rm(file, { recursive: true, force: true })
  try {
    const putDown = (plain: AsyncIterable<Buffer>) =>
      isFolder
        ? unpackFolder(plain, file)
        : pipeline(Readable.from(copies(plain)), createWriteStream(file, { mode: 0o600 }))
    await withProgress(run, plan, (tell) => withObject(backup, object, signal, putDown, tell))
  } catch (error) {
    await remove()
    throw error
  }
  return { whole: (use) => use({ file }), start: () => ({ file }), [Symbol.asyncDispose]: remove }
}

/** Tells how much of a dump was read. Constraints and indexes, which come last, take their time without reading anything. */
async function withProgress<Result>(
  { events }: RestoreRun,
  { into, object }: DatabasePlan,
  read: (tell: (bytes: number) => void) => Promise<Result>,
): Promise<Result> {
  const task = `Reading the dump for "${into}"`
  let bytes = 0
  const tell = (count: number) => {
    bytes += count
    events.emit('progress', { task, bytes, total: object.bytes, items: 0 })
  }
  try {
    return await read(tell)
  } finally {
    events.emit('progressEnd', { task })
  }
}

/** A piece may be reused when the next one is asked for. */
async function* copies(pieces: AsyncIterable<Buffer>) {
  for await (const piece of pieces) yield Buffer.from(piece)
}

/** Makes a list of entries, for `--use-list`. @param name the same one is written over @returns its path */
export async function listFile(run: RestoreRun, name: string, ids: readonly number[]): Promise<string> {
  const file = join(run.staging!.path, name)
  await writeFile(file, ids.map((id) => `${id}\n`).join(''))
  return file
}
