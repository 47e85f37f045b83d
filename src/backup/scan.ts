import { lstatSync, type Stats } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as letOthersRun } from 'node:timers/promises'
import { fsPath, nameFromBytes, nameToBytes } from '../archive/file-name.ts'
import { PgrecallError, reasonOf, systemCode } from '../errors.ts'
import { foldersInside, isEmptiedFolder, isLeftOut, unloggedForks } from '../postgres/data-directory.ts'
import { SourceList } from './source-list.ts'

/** What is copied into shards of its own: the data directory (`base`), one tablespace (its oid), or `wal`. */
export interface SourceGroup {
  name: string
  root: string
  /** Where the same files live on, when `root` is a snapshot of them. */
  liveRoot?: string
  items: SourceList
}

export interface Scan {
  groups: SourceGroup[]
  files: number
  bytes: number
  warnings: string[]
}

/** What a copy is made of: the places to read, and how the server's version names things in them. */
export interface ScanRequest {
  dataDirectory: string
  tablespaces: readonly { oid: string; location: string }[]
  majorVersion: number
  catalogVersion: number
  /** Files that an interrupted backup has already stored. */
  isStored?: (group: string, path: string) => boolean
  signal?: AbortSignal
}

/** Written by us, last and whole; see closing-objects.ts. */
export const CONTROL_FILE = 'global/pg_control'

/** A symbolic link here would hide part of the cluster from the copy; elsewhere one is skipped, as PostgreSQL does. */
const MUST_BE_INSIDE =
  /^(?:base|global|pg_xact|pg_clog|pg_multixact|pg_commit_ts|pg_logical|pg_twophase|pg_tblspc)(?:\/|$)/
/** After as many files a scan lets others have a turn. */
const TURN_FILES = 5000

/**
 * Lists what a copy of a data directory and its tablespaces consists of, under the rules of
 * postgres/data-directory.ts. Files that vanish meanwhile are fine.
 * @throws PgrecallError `refused` when something cannot be read or would be missed
 */
export async function scanCluster(request: ScanRequest): Promise<Scan> {
  const warnings: string[] = []
  const folder = `PG_${request.majorVersion}_${request.catalogVersion}`
  const groups = [await scanGroup('base', request.dataDirectory, request, warnings)]
  for (const { oid, location } of request.tablespaces) {
    groups.push(await scanGroup(oid, location, request, warnings, folder))
  }
  const total = (count: 'files' | 'bytes') => groups.reduce((sum, { items }) => sum + items[count], 0)
  return { groups, files: total('files'), bytes: total('bytes'), warnings }
}

/** @param onlyFolder a tablespace's place may serve servers of several versions, side by side */
async function scanGroup(
  name: string,
  root: string,
  request: ScanRequest,
  warnings: string[],
  onlyFolder?: string,
): Promise<SourceGroup> {
  const items = new SourceList()
  const pending = ['']
  let seen = 0
  for (let folder = pending.pop(); folder !== undefined; folder = pending.pop()) {
    const names = await namesIn(join(root, folder), folder === '')
    const unlogged = unloggedForks(folder, names)
    const files: { name: string; size: number }[] = []
    for (const entry of names) {
      const path = folder === '' ? entry : `${folder}/${entry}`
      if (unlogged.has(entry) || isLeftOut(folder, entry, name === 'base' && folder === '')) continue
      if (name === 'base' && path === CONTROL_FILE) continue
      if (folder === '' && onlyFolder !== undefined && entry !== onlyFolder) continue
      const facts = factsOf(`${root}/${path}`)
      if (!facts) continue
      if (facts.isFile()) {
        if (!request.isStored?.(name, path)) files.push({ name: entry, size: facts.size })
        if (++seen % TURN_FILES === 0) {
          await letOthersRun()
          request.signal?.throwIfAborted()
        }
      } else if (
        name === 'base' &&
        isEmptiedFolder(path) &&
        (facts.isDirectory() || facts.isSymbolicLink())
      ) {
        items.addFolder(path)
        for (const inside of foldersInside(path, request.majorVersion)) items.addFolder(`${path}/${inside}`)
      } else if (facts.isDirectory()) {
        items.addFolder(path)
        pending.push(path)
      } else if (!(facts.isSymbolicLink() && folder === 'pg_tblspc')) {
        warnings.push(requireHarmless(join(root, path), facts, name !== 'base' || MUST_BE_INSIDE.test(path)))
      }
    }
    items.addFiles(folder, files)
  }
  return { name, root, items }
}

/** @returns the warning about something that is neither a file nor a folder */
function requireHarmless(path: string, facts: Stats, belongsToCluster: boolean): string {
  if (facts.isSymbolicLink() && belongsToCluster) {
    throw new PgrecallError('refused', `${path} is a symbolic link inside the cluster's own folders`, {
      hint: 'PostgreSQL does not follow it in backups either; use a tablespace instead',
    })
  }
  return `${path} is ${facts.isSymbolicLink() ? 'a symbolic link' : 'a special file'} and is not in the backup`
}

/** Names as bytes cost far more memory than as text, and nearly all are plain ASCII. */
async function namesIn(folder: string, mustExist: boolean): Promise<string[]> {
  try {
    const names = await readdir(fsPath(folder), { encoding: 'latin1' })
    for (const [index, name] of names.entries()) {
      if (/[\x80-\xff]/.test(name)) names[index] = nameFromBytes(Buffer.from(name, 'latin1'))
    }
    return names
  } catch (error) {
    if (systemCode(error) === 'ENOENT' && !mustExist) return []
    throw unreadable(folder, error)
  }
}

function factsOf(path: string): Stats | undefined {
  try {
    return lstatSync(fsPath(path), { throwIfNoEntry: false })
  } catch (error) {
    throw unreadable(path, error)
  }
}

/**
 * A file or folder of the cluster that cannot be read voids the backup.
 * @param kind `refused` before the backup has begun, `failed` afterwards
 */
export function unreadable(
  path: string,
  error: unknown,
  kind: 'refused' | 'failed' = 'refused',
): PgrecallError {
  // What comes behind the comma is the path once more.
  const reason = reasonOf(error).replace(/, \w+( '.*')?$/, '')
  const isDisk = systemCode(error) === 'EIO'
  return new PgrecallError(kind, `cannot read ${nameToBytes(path).toString('utf8')}: ${reason}`, {
    hint: isDisk
      ? 'the disk cannot give this file any more: look into the log of the kernel, and restore from an earlier backup'
      : 'run as the user who owns the data directory, usually postgres',
    cause: error,
  })
}
