import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { expect, test } from 'vitest'
import { decodeWalFile } from '../../src/wal/stored-file.ts'
import { backUp, recover } from '../backup/commands.ts'
import type { Cluster } from '../lab/cluster.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { giveToLabUser } from '../lab/user.ts'
import { Receiver, receivingLab, receivingObject, storedSegments, untilReceived } from './receive-lab.ts'

const withServer = test.skipIf(!findPrograms() && !process.env.CI)

withServer('follows a failover to a standby that has all WAL', async (context) => {
  requireServer(context)
  await using lab = await receivingLab()
  const { cluster } = lab
  await cluster.sql('CREATE TABLE steps (n int)')
  await using receiver = await Receiver.start(lab)
  await backUp(lab, ['--standalone'])
  await cluster.sql('INSERT INTO steps VALUES (1)')
  await untilReceived(lab)
  const left = await currentSegment(cluster)
  await promote(cluster)
  await receiver.says(/Receiving again, from timeline 2/)
  await cluster.sql('INSERT INTO steps VALUES (2); SELECT pg_switch_wal()')
  await cluster.sql('INSERT INTO steps VALUES (3)')
  await untilReceived(lab)
  await cluster.kill9()
  await receiver.stop()
  // What the old timeline had of its last segment stays.
  expect(storedSegments(lab).receiving).toContain(left)
  expect(decodeWalFile(await readFile(receivingObject(lab, left))).length).toBe(1024 * 1024)
  expect(receiver.words).not.toContain('gap')
  expect(await restoredSteps(await recover(lab, 'restored'))).toEqual([1, 2, 3])
  expect(await restoredSteps(await recover(lab, 'old', ['--target-timeline', '1']))).toEqual([1])
})

withServer(
  'follows a failover to a standby that was behind, from where that left the old timeline',
  async (context) => {
    requireServer(context)
    await using lab = await receivingLab()
    const { cluster } = lab
    await cluster.sql('CREATE TABLE steps (n int)')
    await using receiver = await Receiver.start(lab)
    await backUp(lab, ['--standalone'])
    await cluster.sql('INSERT INTO steps VALUES (1)')
    await cluster.stop('fast')
    const behind = join(lab.scratch.path, 'behind')
    await execa('cp', ['-a', cluster.dataDirectory, behind])
    await cluster.start()
    await receiver.says(/Receiving again, from timeline 1/)
    for (const n of [2, 3, 4]) await cluster.sql(`INSERT INTO steps VALUES (${n}); SELECT pg_switch_wal()`)
    await cluster.sql('INSERT INTO steps VALUES (5)')
    await untilReceived(lab)
    await cluster.kill9()
    await rm(cluster.dataDirectory, { recursive: true })
    await rename(behind, cluster.dataDirectory)
    await promote(cluster)
    await receiver.says(/the server left timeline 1 before the end of what was received/)
    await receiver.says(/Receiving again, from timeline 2/)
    await cluster.sql('INSERT INTO steps VALUES (6); SELECT pg_switch_wal()')
    await cluster.sql('INSERT INTO steps VALUES (7)')
    await untilReceived(lab)
    await cluster.kill9()
    await receiver.stop()
    expect(await restoredSteps(await recover(lab, 'new'))).toEqual([1, 6, 7])
    expect(await restoredSteps(await recover(lab, 'old', ['--target-timeline', '1']))).toEqual([
      1, 2, 3, 4, 5,
    ])
  },
)

/** The same server as a standby of nothing, promoted: a failover that keeps the address. */
async function promote(cluster: Cluster): Promise<void> {
  await cluster.stop('fast')
  const signal = join(cluster.dataDirectory, 'standby.signal')
  await writeFile(signal, '')
  await giveToLabUser(signal)
  await cluster.start()
  await cluster.sql('SELECT pg_promote(false)')
  await cluster.waitForPromotion()
}

async function currentSegment(cluster: Cluster): Promise<string> {
  const [row] = await cluster.sql<{ name: string }>('SELECT pg_walfile_name(pg_current_wal_lsn()) AS name')
  return row!.name
}

async function restoredSteps(server: Cluster): Promise<number[]> {
  await server.waitForPromotion()
  return (await server.sql<{ n: number }>('SELECT n FROM steps ORDER BY n')).map(({ n }) => n)
}
