import { access, constants, realpath } from 'node:fs/promises'
import { dirname } from 'node:path'
import { PgrecallError, reasonOf } from '../errors.ts'
import { isWithin, type Mount, mountOf } from './mounts.ts'

/**
 * The folder into which something of the same file system is put.
 * @param origin what it is put beside, when nothing was chosen: a folder without symbolic links
 * @param chosen the configuration's `snapshotFolder`
 * @throws PgrecallError `refused` when that is another file system
 */
export async function folderBeside(
  mounts: readonly Mount[],
  origin: string,
  chosen: string | undefined,
): Promise<string> {
  const folder = await realpath(chosen ?? dirname(origin)).catch((error: unknown) => {
    throw new PgrecallError('refused', `cannot find the folder for snapshots: ${reasonOf(error)}`, {
      hint: 'make the folder that backup.snapshot.snapshotFolder names',
      cause: error,
    })
  })
  if (mountOf(mounts, folder).device === mountOf(mounts, origin).device) return folder
  throw new PgrecallError('refused', `${folder} is not on the file system of ${origin}`, {
    hint: 'set backup.snapshot.snapshotFolder to a folder on the same file system, outside of the data directory',
  })
}

/** Refuses to put snapshots into what they are made of. */
export function requireOutside(folder: string, place: string): void {
  if (!isWithin(folder, place)) return
  throw new PgrecallError('refused', `the folder for snapshots, ${place}, lies inside ${folder}`, {
    hint: 'set backup.snapshot.snapshotFolder to a folder on the same file system, outside of the data directory',
  })
}

export async function requireWritable(place: string): Promise<void> {
  await access(place, constants.W_OK | constants.X_OK).catch((error: unknown) => {
    throw new PgrecallError('refused', `cannot put snapshots into ${place}: ${reasonOf(error)}`, {
      hint: 'set backup.snapshot.snapshotFolder to a folder of the user who takes the backup, on the same file system',
      cause: error,
    })
  })
}
