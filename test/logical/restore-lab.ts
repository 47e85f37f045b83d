import type { Cluster } from '../lab/cluster.ts'

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
