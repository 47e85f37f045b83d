import { lstat, mkdir, realpath, rmdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PgrecallError, reasonOf, systemCode } from '../errors.ts'

/**
 * The folder in which mount points are made, without symbolic links, as the kernel's table of mounts has it.
 * @param chosen the configuration's `mountFolder`
 * @throws PgrecallError `refused` when it is not there
 */
export async function folderOfMountPoints(chosen: string | undefined): Promise<string> {
  return realpath(chosen ?? tmpdir()).catch((error: unknown) => {
    throw new PgrecallError('refused', `cannot find the folder for mount points: ${reasonOf(error)}`, {
      hint: 'make the folder that backup.snapshot.mountFolder names',
      cause: error,
    })
  })
}

/** It must not exist: in a folder that all may write to, somebody else could have made it, as a link to elsewhere. */
export async function makeMountPoint(folder: string, name: string): Promise<string> {
  const path = join(folder, name)
  await mkdir(path, { mode: 0o700 }).catch((error: unknown) => {
    throw new PgrecallError('failed', `cannot make the mount point ${path}: ${reasonOf(error)}`, {
      hint: 'set backup.snapshot.mountFolder to a folder of the user who takes the backup',
      cause: error,
    })
  })
  return path
}

/** That it is not there is fine. */
export async function removeMountPoint(path: string): Promise<void> {
  if (await isThere(path)) await rmdir(path)
}

/** Whether there is anything of this name, a link that leads nowhere too. */
export async function isThere(path: string): Promise<boolean> {
  try {
    await lstat(path)
    return true
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false
    throw error
  }
}
