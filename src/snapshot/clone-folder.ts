import type { Stats } from 'node:fs'
import {
  constants,
  copyFile,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readlink,
  rm,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { fsPath, nameFromBytes } from '../archive/file-name.ts'
import { PgrecallError, reasonOf, systemCode } from '../errors.ts'
import { sideBySide } from '../side-by-side.ts'

/** A clone waits for its file's dirty pages to be written; several of them keep the disk busy. */
const SIDE_BY_SIDE = 8

/** Never fall back to a plain copy: that would take up the space of the whole cluster. */
const CLONE = constants.COPYFILE_FICLONE_FORCE | constants.COPYFILE_EXCL

/**
 * Copies files (by reference, with their modes and times), symbolic links and folders. What vanishes meanwhile is left
 * out, sockets and other special files are skipped.
 * @param to an empty folder on the same file system
 * @throws PgrecallError `failed` when something cannot be read or cloned; the signal's reason when aborted
 */
export async function cloneFolder(
  from: string,
  to: string,
  options: { isEmptied(path: string): boolean; signal: AbortSignal },
): Promise<void> {
  const folders = ['']
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    const names = await namesIn(join(from, folder))
    await sideBySide(names, SIDE_BY_SIDE, async (name) => {
      options.signal.throwIfAborted()
      const path = join(folder, name)
      const facts = await cloneEntry(join(from, path), join(to, path))
      if (facts?.isDirectory() && !options.isEmptied(path)) folders.push(path)
    })
  }
}

/** @returns undefined when it has vanished */
async function cloneEntry(from: string, to: string): Promise<Stats | undefined> {
  try {
    const facts = await lstat(fsPath(from))
    if (facts.isDirectory()) await mkdir(fsPath(to), { mode: 0o700 })
    else if (facts.isSymbolicLink()) await symlink(await readlink(fsPath(from), 'buffer'), fsPath(to))
    else if (facts.isFile()) {
      await copyFile(fsPath(from), fsPath(to), CLONE)
      // The time from before the clone: a copy may look older than its content, never newer.
      await utimes(fsPath(to), facts.atime, facts.mtime)
    }
    return facts
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    throw cannotClone(from, error)
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await readdir(fsPath(folder), 'buffer')).map(nameFromBytes)
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return []
    throw cannotClone(folder, error)
  }
}

const TRIAL = '.pgrecall-trial-'
/** A trial takes a moment; one that is older was left by a run that was killed. */
const TRIAL_MS = 60_000

async function removeOldTrials(place: string): Promise<void> {
  for (const name of await readdir(place)) {
    const path = join(place, name)
    const facts = name.startsWith(TRIAL) ? await lstat(path).catch(() => undefined) : undefined
    if (facts?.isDirectory() && Date.now() - facts.mtimeMs > TRIAL_MS)
      await rm(path, { recursive: true, force: true })
  }
}

/** Tries it, since XFS can be made without reflinks and its mount does not tell. */
export async function requireReflinks(place: string, fileSystem: string): Promise<void> {
  await removeOldTrials(place)
  const trial = await mkdtemp(join(place, TRIAL))
  try {
    await writeFile(join(trial, 'original'), 'trial')
    await copyFile(join(trial, 'original'), join(trial, 'clone'), CLONE)
  } catch (error) {
    throw new PgrecallError(
      'refused',
      `${place} is on ${fileSystem}, which does not do reflinks: ${reasonOf(error)}`,
      {
        hint: 'XFS does when it was made with reflink=1, and btrfs; otherwise use --method files',
        cause: error,
      },
    )
  } finally {
    await rm(trial, { recursive: true, force: true })
  }
}

function cannotClone(path: string, error: unknown): PgrecallError {
  // btrfs does not share blocks between files with and without copy on write.
  const hint =
    systemCode(error) === 'EINVAL'
      ? 'if the folder has the attribute C (lsattr -d), give it to backup.snapshot.snapshotFolder too: chattr +C'
      : 'run as the user who owns the data directory, usually postgres'
  return new PgrecallError('failed', `cannot clone ${path}: ${reasonOf(error)}`, { hint, cause: error })
}
