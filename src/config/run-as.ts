import { statSync } from 'node:fs'
import type { LocalServer } from './defaults.ts'
import type { ClusterConfig } from './schema.ts'

/**
 * As whom root does its work on a cluster: as the owner of its data directory, like PostgreSQL's own programs. So what
 * is written can be read by the server, the socket lets us in, and nothing that the owner could plant is followed with
 * root's rights.
 * @returns undefined where the owner is root or not known
 */
export function ownerOfCluster(
  cluster: ClusterConfig,
  findServers: () => LocalServer[],
): { uid: number; gid: number } | undefined {
  const socket = findServers().length === 1 ? findServers()[0] : undefined
  const path = cluster.dataDirectory ?? (socket && `${socket.host}/.s.PGSQL.${socket.port}`)
  try {
    const { uid, gid } = statSync(path ?? '/')
    return uid === 0 ? undefined : { uid, gid }
  } catch {
    return undefined
  }
}
