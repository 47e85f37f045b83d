import { lstat, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fsPath, nameFromBytes, nameToBytes } from '../archive/file-name.ts'
import { PgrecallError, reasonOf, systemCode } from '../errors.ts'
import { foldersInside, isEmptiedFolder, isLeftOut, unloggedForks } from '../postgres/data-directory.ts'

/** One thing to copy, relative to its group's root. */
export interface SourceItem {
  path: string
  /** Bytes when it was listed. */
  size: number
  directory?: true
}

/** What is copied into shards of its own: the data directory (`base`), one tablespace (its oid), or `wal`. */
export interface SourceGroup {
  name: string
  root: string
  /** Folders first, then files, the largest first. */
  items: SourceItem[]
  bytes: number
}

export interface Scan {
  groups: SourceGroup[]
  bytes: number
  warnings: string[]
}

/** Written by us, last and whole; see closing-objects.ts. */
export const CONTROL_FILE = 'global/pg_control'

/** A symbolic link here would hide part of the cluster from the copy; elsewhere one is skipped, as PostgreSQL does. */
const MUST_BE_INSIDE =
  /^(?:base|global|pg_xact|pg_clog|pg_multixact|pg_commit_ts|pg_logical|pg_twophase|pg_tblspc)(?:\/|$)/

/**
 * Lists what a copy of a data directory and its tablespaces consists of, under the rules of
 * postgres/data-directory.ts. Files that vanish meanwhile are fine.
 * @throws PgrecallError `refused` when something cannot be read or would be missed
 */
export async function scanDataDirectory(
  dataDirectory: string,
  tablespaces: readonly { oid: string; location: string }[],
  version: { majorVersion: number; tablespaceFolder: string },
): Promise<Scan> {
  const warnings: string[] = []
  const base = await scanGroup('base', dataDirectory, version.majorVersion, warnings)
  const others = []
  for (const { oid, location } of tablespaces) {
    others.push(await scanGroup(oid, location, version.majorVersion, warnings, version.tablespaceFolder))
  }
  const groups = [base, ...others]
  return { groups, bytes: groups.reduce((sum, group) => sum + group.bytes, 0), warnings }
}

async function scanGroup(
  name: string,
  root: string,
  majorVersion: number,
  warnings: string[],
  onlyFolder?: string,
): Promise<SourceGroup> {
  const folders: SourceItem[] = []
  const files: SourceItem[] = []
  const pending = ['']
  for (let folder = pending.pop(); folder !== undefined; folder = pending.pop()) {
    const names = await namesIn(join(root, folder), folder === '')
    const unlogged = unloggedForks(folder, names)
    for (const entry of names) {
      const path = folder === '' ? entry : `${folder}/${entry}`
      if (unlogged.has(entry) || isLeftOut(folder, entry, name === 'base' && folder === '')) continue
      if (name === 'base' && path === CONTROL_FILE) continue
      // A tablespace's folder may serve servers of several versions, side by side.
      if (folder === '' && onlyFolder !== undefined && entry !== onlyFolder) continue
      const facts = await factsOf(join(root, path))
      if (!facts) continue
      const isLink = facts.isSymbolicLink()
      if (name === 'base' && isEmptiedFolder(path) && (facts.isDirectory() || isLink)) {
        for (const inside of ['', ...foldersInside(path, majorVersion)]) {
          folders.push({ path: inside ? `${path}/${inside}` : path, size: 0, directory: true })
        }
      } else if (facts.isDirectory()) {
        folders.push({ path, size: 0, directory: true })
        pending.push(path)
      } else if (facts.isFile()) {
        files.push({ path, size: facts.size })
      } else if (!(isLink && folder === 'pg_tblspc')) {
        if (isLink && (name !== 'base' || MUST_BE_INSIDE.test(path))) {
          throw new PgrecallError(
            'refused',
            `${join(root, path)} is a symbolic link inside the cluster's own folders`,
            {
              hint: 'PostgreSQL does not follow it in backups either; use a tablespace instead',
            },
          )
        }
        warnings.push(
          `${join(root, path)} is ${isLink ? 'a symbolic link' : 'a special file'} and is not in the backup`,
        )
      }
    }
  }
  folders.sort((a, b) => (a.path < b.path ? -1 : 1))
  files.sort((a, b) => b.size - a.size)
  return { name, root, items: [...folders, ...files], bytes: files.reduce((sum, file) => sum + file.size, 0) }
}

async function namesIn(folder: string, mustExist: boolean): Promise<string[]> {
  try {
    return (await readdir(fsPath(folder), { encoding: 'buffer' })).map(nameFromBytes)
  } catch (error) {
    if (systemCode(error) === 'ENOENT' && !mustExist) return []
    throw unreadable(folder, error)
  }
}

async function factsOf(path: string) {
  try {
    return await lstat(fsPath(path))
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    throw unreadable(path, error)
  }
}

/** A file or folder of the cluster that cannot be read voids the backup. */
export function unreadable(path: string, error: unknown): PgrecallError {
  return new PgrecallError(
    'refused',
    `cannot read ${nameToBytes(path).toString('utf8')}: ${reasonOf(error)}`,
    {
      hint: 'run as the user who owns the data directory, usually postgres',
      cause: error,
    },
  )
}
