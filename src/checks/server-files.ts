import { constants } from 'node:fs'
import { access, readdir, readFile, realpath } from 'node:fs/promises'
import { join } from 'node:path'
import { systemCode } from '../errors.ts'
import { isLeftOut } from '../postgres/data-directory.ts'
import { readControlFile } from '../postgres/pg-control.ts'
import type { ServerFacts } from '../postgres/server.ts'
import { type Finding, fail, pass, warn } from './finding.ts'

/** Whether a data directory on this host is that of the server: its pg_control says so. */
export async function isOnThisHost(dataDirectory: string, systemIdentifier: string): Promise<boolean> {
  const bytes = await readFile(join(dataDirectory, 'global/pg_control')).catch(() => undefined)
  return bytes !== undefined && readControlFile(bytes)?.systemIdentifier === systemIdentifier
}

/**
 * What of the data directory a copy could not read. The server makes all below itself and alike; what others put there, such
 * as a key of root's, lies at the top.
 */
export async function checkReadable(dataDirectory: string): Promise<Finding> {
  const unreadable: string[] = []
  for (const folder of ['', 'global', 'base']) {
    for (const name of await readdir(join(dataDirectory, folder)).catch(() => [folder])) {
      if (isLeftOut(folder, name, folder === '')) continue
      const path = join(dataDirectory, folder, name)
      await access(path, constants.R_OK).catch((error) => {
        if (systemCode(error) === 'EACCES' || systemCode(error) === 'EPERM') unreadable.push(path)
      })
    }
  }
  return judgeReadable(unreadable)
}

export function judgeReadable(unreadable: readonly string[]): Finding {
  if (unreadable.length === 0) return pass('files', 'the files of the data directory can be read')
  const [first] = unreadable
  return fail(
    'files',
    `${unreadable.length === 1 ? first : `${unreadable.length} files in the data directory, such as ${first},`} cannot be read, so a backup would fail`,
    `let the user who runs pgrecall read it: chown postgres ${first}`,
  )
}

/** Tablespaces that lie inside the data directory, where a restore refuses to put them. */
export async function checkTablespaces(
  { dataDirectory, tablespaces }: Pick<ServerFacts, 'dataDirectory' | 'tablespaces'>,
  method: string,
): Promise<Finding[]> {
  const real = (path: string) => realpath(path).catch(() => path)
  const root = await real(dataDirectory)
  const inside: string[] = []
  for (const { name, location } of tablespaces)
    if ((await real(location)).startsWith(`${root}/`)) inside.push(name)
  return judgeTablespaces(inside, method)
}

/** A server that sends its files leaves such a folder out of the rest; who copies them takes it with both. */
export function judgeTablespaces(inside: readonly string[], method: string): Finding[] {
  return inside.map((name) =>
    warn(
      'tablespaces',
      `tablespace "${name}" lies inside the data directory, so a restore must be told of another place for it${method === 'stream' ? '' : ', and a backup has it twice'}`,
      `make one outside, ALTER TABLE ALL IN TABLESPACE "${name}" SET TABLESPACE ... in each database, and DROP TABLESPACE "${name}"`,
    ),
  )
}

/** Debian keeps them in /etc; a restored server needs them as well. */
export function judgeOutsideFiles(outside: readonly string[]): Finding[] {
  return outside.map((file) =>
    warn(
      'outside files',
      `${file} is outside the data directory and in no backup`,
      `keep a copy of ${file} beside the backups`,
    ),
  )
}
