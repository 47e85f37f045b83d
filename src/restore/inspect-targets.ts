import { lstat, readdir, readFile, readlink, realpath } from 'node:fs/promises'
import { join } from 'node:path'
import { nameFromBytes } from '../archive/file-name.ts'
import { PgrecallError, reasonOf, systemCode } from '../errors.ts'
import { looksLikeDataDirectory } from '../postgres/data-directory.ts'
import { CONTROL, CONTROL_ASIDE, MARKER, readIfPresent, type TargetFolder } from './data-directory.ts'
import type { RestorePlan } from './plan.ts'

/**
 * Looks at every folder that the restore will fill, and refuses before anything is changed.
 * @param force whether a cluster that is there may be removed; a plan for a delta goes on from it in any case
 * @throws PgrecallError `refused`
 */
export async function inspectTargets(plan: RestorePlan, force: boolean): Promise<TargetFolder[]> {
  const data = await inspectDataDirectory(plan, force)
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
    const isGivenUp = plan.delta || force || data.unfinished.includes(to)
    targets.push(await inspectTablespace(plan, space, isGivenUp))
  }
  return targets
}

async function inspectDataDirectory(
  { dataDirectory: path, delta, backup }: RestorePlan,
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
  const others = names.filter((name) => name !== 'lost+found')
  const folder: TargetFolder = { path, entries: others, goesOn: delta && others.length > 0 }
  if (isUnfinished && !(await exists(join(path, CONTROL)))) {
    return { folder, unfinished: await placesIn(path) }
  }
  if (others.length === 0) return { folder, unfinished: [] }
  if (!looksLikeDataDirectory(names)) {
    throw new PgrecallError('refused', `${path} is not empty, and is no PostgreSQL data directory`, {
      hint: 'choose another --data-directory; --delta and --force replace only what was a cluster',
    })
  }
  if (delta) await requireMajorVersion(path, majorOf(backup))
  else if (!force) {
    throw new PgrecallError('refused', `${path} holds a PostgreSQL cluster`, {
      hint: 'choose another --data-directory, bring it to the state of the backup with --delta, or remove what is there with --force',
    })
  }
  return { folder, unfinished: [] }
}

/** Of another version's files there is nothing to go on from. */
async function requireMajorVersion(path: string, major: number): Promise<void> {
  const version = (await readFile(join(path, 'PG_VERSION'), 'utf8').catch(() => '')).trim()
  if (version === '' || Number.parseInt(version, 10) === major) return
  throw new PgrecallError(
    'refused',
    `${path} holds a cluster of PostgreSQL ${version}, and the backup is of ${major}`,
    { hint: 'choose another --data-directory, or remove what is there with --force instead of --delta' },
  )
}

const majorOf = ({ postgres }: RestorePlan['backup']) => Math.floor(postgres.version / 10_000)

/**
 * Of what lies in a tablespace only the folder of the backup's own major version may go: servers of several versions
 * can share one. And never without being asked for.
 */
async function inspectTablespace(
  plan: RestorePlan,
  space: RestorePlan['tablespaces'][number],
  isGivenUp: boolean,
): Promise<TargetFolder> {
  const { name, to } = space
  const names = (await namesIn(to)).filter((entry) => entry !== 'lost+found')
  const elsewhere = `give the tablespace another place with --tablespace ${to}=NEW`
  const refuse = (what: string, hint: string) =>
    new PgrecallError('refused', `the folder ${to} of tablespace "${name}" ${what}`, { hint })
  const foreign = names.find((entry) => !/^PG_\d/.test(entry))
  if (foreign !== undefined) throw refuse(`holds other things (${foreign})`, elsewhere)
  const entries = names.filter((entry) => entry.startsWith(`PG_${majorOf(plan.backup)}_`))
  if (entries.length === 0) return { path: to, entries, goesOn: false }
  if (await isUsedByOriginal(plan, space)) {
    throw refuse(`is in use by the cluster in ${plan.backup.dataDirectory}`, elsewhere)
  }
  if (!isGivenUp) throw refuse('is not empty', `${elsewhere}, or remove what is there with --force`)
  return { path: to, entries, goesOn: plan.delta }
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
