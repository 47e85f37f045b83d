import { chown, lstat, mkdir, open, readFile, rename, rm, symlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fsPath } from '../archive/file-name.ts'
import { PgrecallError, reasonOf, systemCode } from '../errors.ts'
import type { RestorePlan } from './plan.ts'

/** Lies in a data directory while a restore into it is under way: such a directory holds nothing but that. */
export const MARKER = 'pgrecall.restore.json'
/** `pg_control` under a name that no server looks for. */
export const CONTROL_ASIDE = 'global/pg_control.pgrecall'
export const CONTROL = 'global/pg_control'

/** Whose the restored files are to be; undefined where we may not give files away. */
export type Owner = { uid: number; gid: number } | undefined

/** A folder that a restore fills. */
export interface TargetFolder {
  path: string
  /** What is there now, and is given up. */
  entries: string[]
  /** Whether the restore goes on from that, instead of removing it first. */
  goesOn: boolean
}

/**
 * Makes the folders and empties them, but for those that the restore goes on from. The marker is written first and
 * `pg_control` removed next, so that from here on no server can start, and the same restore can be repeated.
 */
export async function prepareTargets(
  plan: RestorePlan,
  targets: readonly TargetFolder[],
  owner: Owner,
): Promise<void> {
  for (const { path } of targets) await makeFolder(path, owner)
  const marker = { backup: plan.backup.id, tablespaces: plan.tablespaces.map((space) => space.to) }
  await writeFileFor(join(plan.dataDirectory, MARKER), `${JSON.stringify(marker)}\n`, owner)
  await syncFolder(plan.dataDirectory)
  await removeControlFile(plan.dataDirectory)
  for (const target of targets) if (!target.goesOn) await empty(target)
}

/** The links to the tablespaces, where none are left. */
export async function linkTablespaces(
  { dataDirectory, tablespaces }: RestorePlan,
  owner: Owner,
): Promise<void> {
  if (tablespaces.length === 0) return
  await makeFolder(join(dataDirectory, 'pg_tblspc'), owner)
  for (const { oid, to } of tablespaces) await symlink(to, join(dataDirectory, 'pg_tblspc', oid))
}

async function empty({ path, entries }: TargetFolder): Promise<void> {
  for (const name of entries) {
    if (name !== MARKER) await rm(fsPath(join(path, name)), { recursive: true, force: true })
  }
}

/** Synced, so that a power cut does not bring it back over files that are gone. A link in its folder's place is no folder. */
async function removeControlFile(dataDirectory: string): Promise<void> {
  const folder = join(dataDirectory, 'global')
  if (!(await lstat(folder).catch(() => undefined))?.isDirectory()) return
  await rm(join(dataDirectory, CONTROL), { force: true })
  await syncFolder(folder)
}

/** Puts `pg_control` in its place, as the very last: from here on the server can start. */
export async function finishTarget(dataDirectory: string): Promise<void> {
  await rm(join(dataDirectory, MARKER), { force: true })
  await syncFolder(dataDirectory)
  await rename(join(dataDirectory, CONTROL_ASIDE), join(dataDirectory, CONTROL))
  await syncFolder(join(dataDirectory, 'global'))
}

/** Writes a file durably, for the server to read: a new one, never through what lies there under its name. */
export async function writeFileFor(
  path: string,
  content: string | AsyncIterable<Buffer>,
  owner: Owner,
): Promise<void> {
  await rm(path, { force: true })
  const handle = await open(path, 'wx', 0o600)
  try {
    if (owner) await handle.chown(owner.uid, owner.gid)
    for await (const piece of typeof content === 'string' ? [content] : content) await handle.writeFile(piece)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

export async function readIfPresent(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return ''
    throw error
  }
}

export async function syncFolder(path: string): Promise<void> {
  const handle = await open(fsPath(path), 'r')
  await handle.sync().finally(() => handle.close())
}

/** Whose the restored files are to be, when run as root: the existing folder's owner, else that of the backup. */
export async function ownerFor(
  dataDirectory: string,
  recorded: { uid: number; gid: number },
  isRoot: boolean,
): Promise<Owner> {
  if (!isRoot) return undefined
  const facts = await lstat(dataDirectory).catch(() => undefined)
  return facts && facts.uid !== 0 ? { uid: facts.uid, gid: facts.gid } : recorded
}

async function makeFolder(path: string, owner: Owner): Promise<void> {
  try {
    const first = await mkdir(path, { recursive: true, mode: 0o700 })
    if (first) await finishParents(path, first, owner)
    const handle = await open(path, 'r')
    try {
      await handle.chmod(0o700)
      if (owner) await handle.chown(owner.uid, owner.gid)
    } finally {
      await handle.close()
    }
  } catch (error) {
    throw new PgrecallError('failed', `cannot make the folder ${path}: ${reasonOf(error)}`, {
      hint: 'run as the user who will run the server, or as root',
      cause: error,
    })
  }
}

/** The server has to pass through the folders that were made on the way, so they are its user's too. */
async function finishParents(path: string, first: string, owner: Owner): Promise<void> {
  for (let made = path; ; made = dirname(made)) {
    if (owner) await chown(made, owner.uid, owner.gid)
    await syncFolder(dirname(made))
    if (made === first) return
  }
}
