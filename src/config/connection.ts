import { readFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { ConnectionOptions } from '../postgres/server.ts'
import type { LocalServer } from './defaults.ts'
import type { ClusterConfig } from './schema.ts'

/**
 * How to reach a cluster's server: what the configuration says, then libpq's variables, then the one server that runs
 * on this host.
 * @throws PgrecallError `config` when several servers run here and none is named
 */
export function connectionFor(
  configured: ClusterConfig['connection'],
  env: Record<string, string | undefined>,
  findServers: () => LocalServer[],
): ConnectionOptions {
  if (typeof configured === 'string') return { uri: configured }
  const { passwordFile, ...connection } = configured
  const password = passwordFile === undefined ? connection.password : readPassword(passwordFile)
  const place = (connection.host ?? env.PGHOST) ? {} : localPlace(connection.port ?? env.PGPORT, findServers)
  return {
    database: env.PGDATABASE || 'postgres',
    user: connection.user ?? (env.PGUSER || ownName()),
    ...(env.PGHOST && { host: env.PGHOST }),
    ...(env.PGPORT && { port: portOf(env.PGPORT) }),
    ...place,
    ...withoutUndefined({ ...connection, password }),
  }
}

/** Whether a cluster's server is, or could be, reached through a socket in /tmp. */
export function usesSocketInTmp(
  configured: ClusterConfig['connection'],
  env: Record<string, string | undefined>,
  findServers: () => LocalServer[],
): boolean {
  if (typeof configured === 'string') return /[@/]%2Ftmp|[?&]host=(?:%2F|\/)tmp/i.test(configured)
  const host = configured.host ?? env.PGHOST
  return host ? host.startsWith('/tmp') : findServers().some((server) => server.host === '/tmp')
}

/** A container may run us under a number that no user has. */
function ownName(): string {
  try {
    return userInfo().username
  } catch (error) {
    throw new PgrecallError('config', `the user ${process.getuid?.()} has no name on this host`, {
      hint: 'say which role to connect as with connection.user in the configuration, or with PGUSER',
      cause: error,
    })
  }
}

function localPlace(
  port: number | string | undefined,
  findServers: () => LocalServer[],
): { host?: string; port?: number } {
  const servers = findServers().filter((server) => port === undefined || server.port === Number(port))
  if (servers.length > 1) {
    const list = servers.map((server) => `port ${server.port} in ${server.host}`).join(', ')
    throw new PgrecallError('config', `several servers run on this host: ${list}`, {
      hint: 'say which one with "connection" in the configuration, or with PGHOST and PGPORT',
    })
  }
  const [server] = servers
  return server ? { host: server.host, port: server.port } : { host: 'localhost' }
}

function portOf(text: string): number {
  const port = Number(text)
  if (/^\d{1,5}$/.test(text) && port > 0 && port < 65_536) return port
  throw new PgrecallError('config', `PGPORT is "${text}", which is no port`, {
    hint: 'set it to a number such as 5432',
  })
}

function readPassword(file: string): string {
  try {
    return readFileSync(file, 'utf8').replace(/\r?\n$/, '')
  } catch (error) {
    throw new PgrecallError('config', `cannot read the password file ${file}: ${reasonOf(error)}`, {
      hint: 'correct connection.passwordFile, and let the user who runs pgrecall read it',
      cause: error,
    })
  }
}

function withoutUndefined<T extends Record<string, unknown>>(options: T): ConnectionOptions {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))
}
