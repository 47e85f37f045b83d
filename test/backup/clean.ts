import { expect } from 'vitest'
import type { Cluster } from '../lab/cluster.ts'

/** What PostgreSQL's own programs say of a restored cluster that runs; it is stopped at the end. */
export async function expectClean(server: Cluster): Promise<void> {
  await server.run('pg_amcheck', ['--heapallindexed', '--install-missing', 'postgres'])
  await server.stop()
  await server.run('pg_checksums', ['--check', '--pgdata', server.dataDirectory])
}

/** Whether pgbench's tables fit together, as they do at every moment at which no transaction is half done. */
export async function expectBalanced(server: Cluster): Promise<void> {
  const [row] = await server.sql<{ sums: boolean }>(`
    SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)
       AND (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(delta) FROM pgbench_history) AS sums`)
  expect(row!.sums).toBe(true)
}
