import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Config } from './schema.ts'
import { ConfigSchema } from './schema.ts'

/** A server's socket on this host. */
export interface LocalServer {
  host: string
  port: number
  /** Whose the server is. */
  uid: number
}

/** Where PostgreSQL puts its socket: Debian's and Red Hat's packages, and its own default. */
const SOCKET_FOLDERS = ['/var/run/postgresql', '/tmp']

/** The sockets of servers on this host. A socket may have been left by a server that was killed. */
export function findLocalServers(folders: readonly string[] = SOCKET_FOLDERS): LocalServer[] {
  return folders.flatMap((host) => {
    try {
      return readdirSync(host).flatMap((name) => {
        const port = /^\.s\.PGSQL\.(\d+)$/.exec(name)?.[1]
        const facts = port === undefined ? undefined : statSync(join(host, name), { throwIfNoEntry: false })
        return facts ? [{ host, port: Number(port), uid: facts.uid }] : []
      })
    } catch {
      return []
    }
  })
}

/**
 * The configuration where there is no file: one cluster, "main", and one repository in the user's data folder.
 * @param home the home of the user who owns the cluster
 */
export function defaultConfig(env: Record<string, string | undefined>, home: string): Config {
  const data = env.XDG_DATA_HOME || join(home, '.local', 'share')
  return ConfigSchema.parse({
    repositories: { local: { type: 'local', path: join(data, 'pgrecall') } },
    clusters: { main: { repositories: ['local'] } },
  })
}

/** A user's home by the password file, for root who acts for the cluster's owner. */
export function homeOf(uid: number): string | undefined {
  return passwordEntry(uid)?.[5]
}

/** A user's name by the password file. */
export function nameOf(uid: number): string | undefined {
  return passwordEntry(uid)?.[0]
}

function passwordEntry(uid: number): string[] | undefined {
  try {
    const entries = readFileSync('/etc/passwd', 'utf8').split('\n')
    return entries.map((entry) => entry.split(':')).find(([, , id]) => id === String(uid))
  } catch {
    return undefined
  }
}
