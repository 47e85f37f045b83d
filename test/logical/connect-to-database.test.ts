import { beforeEach, expect, test } from 'vitest'
import { connectToDatabase } from '../../src/logical/connect-to-database.ts'
import type { LogicalRun } from '../../src/logical/logical-run.ts'
import { dumpableDatabases } from '../../src/postgres/dumpable.ts'
import { type ConnectionOptions, Server } from '../../src/postgres/server.ts'
import { Cluster } from '../lab/cluster.ts'
import { requireServer } from '../lab/programs.ts'

beforeEach((context) => void requireServer(context))

test('a pooler that does not know a database, or leads to another one, is no reason to leave it out', async () => {
  await using cluster = await Cluster.create()
  await cluster.sql('CREATE DATABASE shop')
  const { host, port, user } = cluster
  const connection = { host, port, user, database: 'postgres' }
  await using server = await Server.connect(connection)
  const databases = await dumpableDatabases(server, cluster.programs.major)
  const shop = databases.find(({ name }) => name === 'shop')!
  for (const into of ['not there', 'postgres']) {
    const connect = (options: ConnectionOptions) =>
      Server.connect(options.database === 'shop' ? { ...options, database: into } : options)
    const run = {
      source: { connection, connect, env: {} },
      plan: { databases, server: { majorVersion: cluster.programs.major } },
    } as unknown as LogicalRun
    await expect(connectToDatabase(run, shop)).rejects.toMatchObject({
      kind: 'connection',
      message: expect.stringMatching(/^database "shop" is there, and cannot be reached: /),
    })
  }
  const sessions = () =>
    cluster.sql(
      `SELECT FROM pg_stat_activity WHERE application_name = 'pgrecall' AND pid <> pg_backend_pid()`,
    )
  expect(await sessions()).toHaveLength(1)
})
