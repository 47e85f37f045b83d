import { existsSync } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { PgrecallError, reasonOf } from '../errors.ts'
import { parseWalFile } from '../postgres/wal-file.ts'
import { Shortfalls } from './every-repository.ts'
import type { PushTarget } from './push.ts'
import { pushBatch } from './push-batch.ts'
import { inArchiverOrder } from './waiting.ts'

export interface FolderRequest extends PushTarget {
  /** Absolute. */
  folder: string
  /** Each file is removed once it is durable in every required repository. */
  remove: boolean
  jobs: number
  signal: AbortSignal
}

export interface FolderResult {
  /** Files stored now, files that were there already, and their plain bytes. */
  stored: number
  existed: number
  bytes: number
  removed: number
  /** Segments that whatever fills the folder seems to be still writing. */
  unfinished: string[]
  failures: { name: string; error: unknown }[]
  /** What optional repositories lack, in words. */
  shortfalls: string[]
}

/** A segment that is not whole is left for the next time while it is younger than this. */
const WRITING_MS = 5 * 60 * 1000

/**
 * Archives the WAL files of a folder that `archive_command` only copies to.
 * @throws PgrecallError `refused` for `pg_wal` itself, `usage` for a folder that is not there
 */
export async function archiveFolder(request: FolderRequest): Promise<FolderResult> {
  const { folder, remove, signal } = request
  if (existsSync(join(folder, 'archive_status'))) {
    throw new PgrecallError('refused', `${folder} is a server's own pg_wal`, {
      hint: 'set archive_command = \'pgrecall wal-push "%p"\' there; --from-directory is for a folder of copies',
    })
  }
  const found = inArchiverOrder(await namesIn(folder))
  const names = found.filter((name) => !isBeingReceived(name, found))
  const result: FolderResult = {
    stored: 0,
    existed: 0,
    bytes: 0,
    removed: 0,
    unfinished: found.filter((name) => !names.includes(name)),
    failures: [],
    shortfalls: [],
  }
  if (names.length === 0) return result
  const failures: FolderResult['failures'] = []
  const shortfalls = new Shortfalls()
  const batch = { folder, names, untilMs: Infinity, remove, circumstances: undefined }
  const trouble = await pushBatch(batch, request, request.jobs, ({ name, result: pushed, error }) => {
    if (error !== undefined) failures.push({ name, error })
    if (!pushed) return
    shortfalls.add(name, pushed.repositories)
    const isNew = pushed.repositories.some(({ result }) => result === 'stored')
    result[isNew ? 'stored' : 'existed']++
    result.bytes += pushed.bytes
    if (remove && error === undefined) result.removed++
  })
  result.shortfalls = shortfalls.warnings
  signal.throwIfAborted()
  if (trouble) throw trouble.error
  for (const failure of failures) {
    const facts = await stat(join(folder, failure.name)).catch(() => undefined)
    // Another run that overlaps with this one was faster.
    if (!facts) continue
    const isDamaged = failure.error instanceof PgrecallError && failure.error.kind === 'damaged'
    if (isDamaged && Date.now() - facts.mtimeMs < WRITING_MS) result.unfinished.push(failure.name)
    else result.failures.push(failure)
  }
  return result
}

/**
 * `pg_receivewal` calls a segment so until it is whole. The unfinished segment that PostgreSQL itself archives, when a
 * standby is promoted, is followed by files of the next timeline.
 */
function isBeingReceived(name: string, names: readonly string[]): boolean {
  const file = parseWalFile(name)
  if (file?.kind !== 'partial') return false
  return !names.some((other) => (parseWalFile(other)?.timeline ?? 0) > file.timeline)
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    throw new PgrecallError('usage', `cannot read the folder ${folder}: ${reasonOf(error)}`, {
      hint: '--from-directory takes the folder that archive_command copies to',
      cause: error,
    })
  }
}
