import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Cluster } from '../lab/cluster.ts'
import { Programs } from '../lab/programs.ts'

const SCRIPT = fileURLToPath(new URL('../../scripts/postgres.sh', import.meta.url))

/** Options of `restore` that name another server. */
export const targetOf = ({ host, port, user }: Cluster) => [
  '--host',
  host,
  '--port',
  String(port),
  '--username',
  user,
]

/** All that a server holds, line by line, without the order in which it was made and the keys that are new in each dump. */
export async function sortedDump(cluster: Cluster): Promise<string[]> {
  const script = await cluster.run('pg_dumpall')
  return script
    .split('\n')
    .filter((line) => !/^\\(?:un)?restrict /.test(line))
    .toSorted()
}

/** A server that `scripts/postgres.sh` has made before; undefined where it has not. */
export function installed(version: number): Programs | undefined {
  try {
    const folder = execFileSync('sh', [SCRIPT, '--installed', String(version)], { encoding: 'utf8' }).trim()
    return new Programs(folder)
  } catch {
    return undefined
  }
}
