import { copyFile, open, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { FORMAT } from '../catalog/identity.ts'
import { droppedKey, walKey } from '../catalog/layout.ts'
import type { Repository } from '../catalog/repository.ts'
import { walForms } from '../catalog/wal-object.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import { parseWalFile } from '../postgres/wal-file.ts'
import { type AwayMarks, inEveryRepository, nobodyAway } from './every-repository.ts'
import { type PushTarget, WalPusher } from './push.ts'
import { makeFolder, SPOOL } from './spool.ts'
import { isThere } from './store-parts.ts'

/** Notes of what was given up and is not yet told to the repositories. */
const GIVEN_UP = join(SPOOL, 'dropped')
const NOTE = '.json'

/**
 * Notes durably that a file of `pg_wal` will never be archived. Only then may PostgreSQL be told that it is done with. A
 * history is small, and without it its timeline is lost: a copy is kept until it can be stored.
 * @param root the data directory
 * @throws PgrecallError `failed` when it cannot be noted
 */
export async function giveUp(root: string, name: string, reason: string): Promise<void> {
  try {
    await noteGivenUp(root, name, reason)
  } catch (error) {
    throw new PgrecallError(
      'failed',
      `${name} cannot be stored (${reason}), nor given up: ${reasonOf(error)}`,
      {
        hint: 'the note of it takes some kilobytes in pg_wal; make room there, or let the repository be written again',
        cause: error,
      },
    )
  }
}

async function noteGivenUp(root: string, name: string, reason: string): Promise<void> {
  const folder = join(root, GIVEN_UP)
  makeFolder(folder)
  if (parseWalFile(name)?.kind === 'history') {
    const copy = join(folder, name)
    await copyFile(join(root, 'pg_wal', name), `${copy}.new`)
    await syncPath(`${copy}.new`)
    await rename(`${copy}.new`, copy)
  } else {
    const note = { format: FORMAT, segment: name, droppedAt: new Date().toISOString(), reason }
    const path = join(folder, `${name}${NOTE}`)
    await using handle = await open(`${path}.new`, 'w', 0o600)
    await handle.writeFile(`${JSON.stringify(note)}\n`)
    await handle.sync()
    await rename(`${path}.new`, path)
  }
  await syncPath(folder)
}

/**
 * Tells the repositories what was given up while they were away: a gap that explains itself. An optional one that is
 * still away is told nothing.
 * @throws the first failure, after all others were told
 */
export async function deliverGivenUp(root: string, target: PushTarget): Promise<void> {
  const folder = join(root, GIVEN_UP)
  const entries = await readdir(folder).catch(() => [])
  const away = nobodyAway(target.repositories)
  const pusher = new WalPusher(target, away)
  let failure: unknown
  for (const entry of entries) {
    const path = join(folder, entry)
    try {
      if (entry.endsWith(NOTE)) await deliverNote(path, entry.slice(0, -NOTE.length), target, away)
      // What has another name was being written when the call was ended: PostgreSQL has asked again since.
      else if (parseWalFile(entry)) await pusher.push(path)
      await rm(path)
    } catch (error) {
      failure ??= error
    }
  }
  if (failure) throw failure
}

/** One repository may have stored what another one failed to. */
async function deliverNote(
  path: string,
  name: string,
  { cluster, repositories, signal }: PushTarget,
  away: AwayMarks,
): Promise<void> {
  const note = await readFile(path)
  const tell = async (repository: Repository, signal: AbortSignal | undefined) => {
    const { storage } = repository
    for (const form of walForms(repository))
      if (await isThere(storage, walKey(cluster, name, form), signal)) return 'exists'
    await storage.put(droppedKey(cluster, name), note, signal && { signal })
    return 'stored'
  }
  const { failure } = await inEveryRepository(repositories, tell, { signal, away })
  if (failure) throw failure.error
}

async function syncPath(path: string): Promise<void> {
  await using handle = await open(path, 'r')
  await handle.sync()
}
