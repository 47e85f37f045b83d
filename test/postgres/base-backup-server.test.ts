import { appendFile, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { type BaseBackupOptions, baseBackup } from '../../src/postgres/base-backup.ts'
import { connectReplication, identifySystem, readPlace } from '../../src/postgres/replication.ts'
import { Cluster } from '../lab/cluster.ts'
import { requireServer } from '../lab/programs.ts'
import { giveToLabUser } from '../lab/user.ts'

const place = ({ host, port }: Cluster, user = 'postgres') => ({ host, port, user, database: 'postgres' })

async function setHba(cluster: Cluster, lines: string): Promise<void> {
  await writeFile(join(cluster.dataDirectory, 'pg_hba.conf'), lines)
  await cluster.sql('SELECT pg_reload_conf()')
}

test('identifies the system', async (context) => {
  requireServer(context)
  await using cluster = await Cluster.create()
  const [row] = await cluster.sql<{ id: string }>(
    'SELECT system_identifier::text AS id FROM pg_control_system()',
  )
  expect(await identifySystem(place(cluster))).toMatchObject({ systemIdentifier: row!.id, timeline: 1 })
})

test('says where the server is, and how it came to its timeline', async (context) => {
  requireServer(context)
  await using cluster = await Cluster.create()
  expect(await readPlace(place(cluster))).toMatchObject({
    timeline: 1,
    position: expect.any(BigInt),
    history: [{ timeline: 1, begin: 0n, end: undefined }],
  })
  await cluster.stop()
  const signal = join(cluster.dataDirectory, 'standby.signal')
  await writeFile(signal, '')
  await giveToLabUser(signal)
  await cluster.start()
  await cluster.sql('SELECT pg_promote()')
  await cluster.waitForPromotion()
  const { timeline, position, history } = await readPlace(place(cluster))
  expect(timeline).toBe(2)
  const [first, second] = history!
  expect([first!.timeline, second!.timeline, second!.begin]).toEqual([1, 2, first!.end])
  expect(second!.begin).toBeLessThanOrEqual(position)
  await rm(join(cluster.dataDirectory, 'pg_wal', '00000002.history'))
  expect((await readPlace(place(cluster))).history).toBeUndefined()
})

test('what keeps a role from replication is told with the way out of it', async (context) => {
  requireServer(context)
  await using cluster = await Cluster.create({
    settings: { listen_addresses: '127.0.0.1', max_wal_senders: 1, lc_messages: 'C' },
  })
  const local = place(cluster)
  const remote = { ...local, host: '127.0.0.1' }
  await cluster.sql(`CREATE ROLE "Back up" LOGIN PASSWORD 'right'`)
  await expect(identifySystem(place(cluster, 'Back up'))).rejects.toMatchObject({
    kind: 'connection',
    hint: 'as a superuser: ALTER ROLE "Back up" REPLICATION',
  })

  const holder = await connectReplication(local)
  await expect(identifySystem(local)).rejects.toMatchObject({
    kind: 'connection',
    hint: expect.stringContaining('max_wal_senders'),
  })
  await holder.end()

  await setHba(cluster, 'local all all trust\nhost all all 127.0.0.1/32 trust\n')
  await expect(identifySystem(local)).rejects.toMatchObject({
    kind: 'connection',
    hint: expect.stringContaining('"local replication postgres peer"'),
  })
  await expect(identifySystem({ ...remote, user: 'Back up' })).rejects.toMatchObject({
    kind: 'connection',
    hint: expect.stringContaining('host replication "Back up" 127.0.0.1/32 scram-sha-256'),
  })

  // The line that was asked for lets the role in, and asks for the password.
  await cluster.sql('ALTER ROLE "Back up" REPLICATION')
  const file = join(cluster.dataDirectory, 'pg_hba.conf')
  await appendFile(file, 'host replication "Back up" 127.0.0.1/32 scram-sha-256\n')
  expect(await readFile(file, 'utf8')).toContain('replication')
  await cluster.sql('SELECT pg_reload_conf()')
  const asRole = { ...remote, user: 'Back up' }
  await expect(identifySystem({ ...asRole, password: 'wrong' })).rejects.toMatchObject({
    kind: 'connection',
    hint: expect.stringContaining('.pgpass'),
  })
  await expect(identifySystem({ ...asRole, password: 'right' })).resolves.toMatchObject({ timeline: 1 })
})

test('a command that the server refuses fails with its reason', async (context) => {
  requireServer(context)
  await using cluster = await Cluster.create()
  const options: BaseBackupOptions = {
    connection: place(cluster),
    serverVersion: 150_000,
    label: 'x'.repeat(2000),
    checkpoint: 'fast',
    wal: false,
    onWarning: () => {},
    onWaiting: () => {},
    signal: new AbortController().signal,
  }
  await expect(Array.fromAsync(baseBackup(options))).rejects.toMatchObject({
    kind: 'failed',
    message: expect.stringContaining('backup label too long'),
  })
  await cluster.waitUntil(`NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'walsender')`)
})
