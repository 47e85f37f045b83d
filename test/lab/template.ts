import { constants } from 'node:fs'
import { access, chmod, mkdir, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { execa } from 'execa'
import { cleanEnvironment } from './environment.ts'
import type { Programs } from './programs.ts'
import { asLabUser, labUser } from './user.ts'

/** Templates stay from run to run; inside node_modules they are nobody's litter. */
const CACHE = fileURLToPath(new URL('../../node_modules/.cache/pgrecall-lab/', import.meta.url))

export interface DataDirectoryOptions {
  programs: Programs
  /** Page checksums; default on. */
  checksums?: boolean
  /** More options for `initdb`, e.g. `--wal-segsize=1`. They imply `fresh`. */
  initdb?: string[]
  /** A system identifier of its own. Otherwise all clusters of one version share one: they are copies. */
  fresh?: boolean
}

/**
 * Makes a data directory: a copy of this version's template (0.1 s), or a new one (1 s).
 *
 * @param target a path that does not exist yet, in a folder of the lab's user
 */
export async function makeDataDirectory(target: string, options: DataDirectoryOptions): Promise<void> {
  const { programs, checksums = true, initdb = [], fresh = initdb.length > 0 } = options
  const args = [
    ...initdb,
    ...(checksums ? ['--data-checksums'] : programs.major >= 18 ? ['--no-data-checksums'] : []),
  ]
  if (fresh) return runInitdb(target, programs, args)

  const template = join(CACHE, `${programs.version}${checksums ? '' : '-no-checksums'}`)
  if (await isReadable(join(template, 'PG_VERSION'))) return copy(template, target)
  await runInitdb(target, programs, args)
  await remember(target, template)
}

async function runInitdb(target: string, programs: Programs, args: string[]): Promise<void> {
  const fixed = ['--auth=trust', '--username=postgres', '--no-sync', '--encoding=UTF8', '--locale=C']
  await execa(programs.path('initdb'), ['--pgdata', target, ...fixed, ...args], {
    ...asLabUser,
    cwd: dirname(target),
    env: cleanEnvironment(dirname(target)),
    extendEnv: false,
  })
}

async function remember(dataDirectory: string, template: string): Promise<void> {
  const incoming = `${template}.${process.pid}`
  try {
    await mkdir(CACHE, { recursive: true })
    await copy(dataDirectory, incoming)
    // Of several workers that come here at once, one wins; to the others the rename says so.
    await rename(incoming, template)
  } catch {
    await rm(incoming, { recursive: true, force: true })
  }
}

async function copy(from: string, to: string): Promise<void> {
  await execa('cp', ['-a', '--reflink=auto', from, to])
  // The template may be from a run by another user.
  if (labUser) await execa('chown', ['-R', `${labUser.uid}:${labUser.gid}`, to])
  await chmod(to, 0o700)
}

async function isReadable(path: string): Promise<boolean> {
  return access(path, constants.R_OK).then(
    () => true,
    () => false,
  )
}
