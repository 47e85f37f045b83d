import {
  chown,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  symlink,
} from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fsPath, nameFromBytes } from '../archive/file-name.ts'
import { PgrecallError, reasonOf, systemCode } from '../errors.ts'
import { looksLikeDataDirectory } from '../postgres/data-directory.ts'
import type { RestorePlan } from './plan.ts'

/** Lies in a data directory while a restore into it is under way: such a directory holds nothing but that. */
export const MARKER = 'pgrecall.restore.json'
/** `pg_control` under a name that no server looks for. */
export const CONTROL_ASIDE = 'global/pg_control.pgrecall'
const CONTROL = 'global/pg_control'

/** Whose the restored files are to be; undefined where we may not give files away. */
export type Owner = { uid: number; gid: number } | undefined

/** A folder that a restore fills: what is there now, and what may be done about it. */
export interface TargetFolder {
  path: string
  /** Entries to remove first. */
  remove: string[]
}

/**
 * Looks at every folder that the restore will fill, and refuses before anything is changed.
 * @throws PgrecallError `refused`
 */
export async function inspectTargets(plan: RestorePlan, force: boolean): Promise<TargetFolder[]> {
  const data = await inspectDataDirectory(plan.dataDirectory, force)
  const targets = [data.folder]
  const places = new Set([plan.dataDirectory])
  for (const space of plan.tablespaces) {
    const { name, to } = space
    if (!to.startsWith('/')) {
      throw new PgrecallError(
        'usage',
        `the new place of tablespace "${name}", ${to}, must be an absolute path`,
      )
    }
    if (places.has(to) || to.startsWith(`${plan.dataDirectory}/`)) {
      throw new PgrecallError(
        'refused',
        `tablespace "${name}" cannot be restored to ${to}: that place is already used by this restore`,
        {
          hint: 'give each tablespace a folder of its own, outside the data directory, with --tablespace OLD=NEW',
        },
      )
    }
    places.add(to)
    targets.push(await inspectTablespace(plan, space, force || data.unfinished.includes(to)))
  }
  return targets
}

async function inspectDataDirectory(
  path: string,
  force: boolean,
): Promise<{ folder: TargetFolder; unfinished: string[] }> {
  const names = await namesIn(path)
  if (names.includes('postmaster.pid')) {
    throw new PgrecallError(
      'refused',
      `a server runs in ${path}, or was killed there (postmaster.pid exists)`,
      {
        hint: `stop it with pg_ctl -D ${path} stop; if no server runs, remove postmaster.pid`,
      },
    )
  }
  // Without pg_control nothing of a cluster's life can be in there: it is what an interrupted restore left.
  const isUnfinished = names.includes(MARKER) || (await exists(join(path, CONTROL_ASIDE)))
  if (isUnfinished && !(await exists(join(path, CONTROL)))) {
    return {
      folder: { path, remove: names.filter((name) => name !== 'lost+found') },
      unfinished: await placesIn(path),
    }
  }
  const others = names.filter((name) => name !== 'lost+found')
  if (others.length === 0) return { folder: { path, remove: [] }, unfinished: [] }
  if (!looksLikeDataDirectory(names)) {
    throw new PgrecallError('refused', `${path} is not empty, and is no PostgreSQL data directory`, {
      hint: 'choose another --data-directory; --force replaces only what was a cluster',
    })
  }
  if (!force) {
    throw new PgrecallError('refused', `${path} holds a PostgreSQL cluster`, {
      hint: 'choose another --data-directory, or remove what is there with --force',
    })
  }
  return { folder: { path, remove: others }, unfinished: [] }
}

/**
 * Of what lies in a tablespace only the folder of the backup's own major version may go: servers of several versions
 * can share one. And never without being asked for.
 */
async function inspectTablespace(
  plan: RestorePlan,
  space: RestorePlan['tablespaces'][number],
  force: boolean,
): Promise<TargetFolder> {
  const { name, to } = space
  const names = (await namesIn(to)).filter((entry) => entry !== 'lost+found')
  const elsewhere = `give the tablespace another place with --tablespace ${to}=NEW`
  const refuse = (what: string, hint: string) =>
    new PgrecallError('refused', `the folder ${to} of tablespace "${name}" ${what}`, { hint })
  const foreign = names.find((entry) => !/^PG_\d/.test(entry))
  if (foreign !== undefined) throw refuse(`holds other things (${foreign})`, elsewhere)
  const major = Math.floor(plan.backup.postgres.version / 10_000)
  const remove = names.filter((entry) => entry.startsWith(`PG_${major}_`))
  if (remove.length === 0) return { path: to, remove }
  if (await isUsedByOriginal(plan, space)) {
    throw refuse(`is in use by the cluster in ${plan.backup.dataDirectory}`, elsewhere)
  }
  if (!force) throw refuse('is not empty', `${elsewhere}, or remove what is there with --force`)
  return { path: to, remove }
}

/**
 * A folder does not tell whose tablespace it is. But the cluster that was backed up may still stand where it stood,
 * and its link shows that it does: `--force` is about the data directory that is replaced, not about another one.
 */
async function isUsedByOriginal(
  { backup, dataDirectory }: RestorePlan,
  { oid, to }: { oid: string; to: string },
): Promise<boolean> {
  const real = (path: string) => realpath(path).catch(() => path)
  if ((await real(backup.dataDirectory)) === (await real(dataDirectory))) return false
  const link = await readlink(join(backup.dataDirectory, 'pg_tblspc', oid)).catch(() => undefined)
  return link !== undefined && (await real(link)) === (await real(to))
}

/**
 * Makes the folders and empties them. The marker is written first and `pg_control` removed next, so that from here
 * on no server can start, and the same restore can be repeated.
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
  for (const { path, remove } of targets) {
    for (const name of remove) {
      if (name !== MARKER) await rm(fsPath(join(path, name)), { recursive: true, force: true })
    }
  }
  if (plan.tablespaces.length === 0) return
  await makeFolder(join(plan.dataDirectory, 'pg_tblspc'), owner)
  for (const { oid, to } of plan.tablespaces) await symlink(to, join(plan.dataDirectory, 'pg_tblspc', oid))
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

async function exists(path: string): Promise<boolean> {
  return (await lstat(path).catch(() => undefined)) !== undefined
}

async function namesIn(path: string): Promise<string[]> {
  try {
    return (await readdir(path, { encoding: 'buffer' })).map(nameFromBytes)
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return []
    throw new PgrecallError('refused', `cannot look into ${path}: ${reasonOf(error)}`, {
      hint: 'run as the user who will run the server, or as root',
      cause: error,
    })
  }
}

/**
 * Where the unfinished restore was putting tablespaces: what its marker says, and what its links say, since the marker
 * is written in place and removed before the end.
 */
async function placesIn(dataDirectory: string): Promise<string[]> {
  const links = join(dataDirectory, 'pg_tblspc')
  const names = await readdir(links).catch(() => [])
  const linked = await Promise.all(names.map((name) => readlink(join(links, name)).catch(() => undefined)))
  return [...(await markedPlaces(dataDirectory)), ...linked.filter((place) => place !== undefined)]
}

async function markedPlaces(dataDirectory: string): Promise<string[]> {
  try {
    const marker = JSON.parse(await readIfPresent(join(dataDirectory, MARKER))) as { tablespaces?: unknown }
    return Array.isArray(marker.tablespaces)
      ? marker.tablespaces.filter((place) => typeof place === 'string')
      : []
  } catch {
    return []
  }
}
