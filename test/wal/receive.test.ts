import { existsSync, readdirSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { parseWalFile } from '../../src/postgres/wal-file.ts'
import { backUp, recover } from '../backup/commands.ts'
import type { Cluster } from '../lab/cluster.ts'
import { makeRepository } from '../lab/lab.ts'
import { poll } from '../lab/poll.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { Scratch } from '../lab/scratch.ts'
import { folderOf, Receiver, receivingLab, storedSegments, takeAway, untilReceived } from './receive-lab.ts'

const withServer = test.skipIf(!findPrograms() && !process.env.CI)

withServer(
  'after the loss of the server, all that it had sent can be restored, to the second',
  async (context) => {
    requireServer(context)
    await using lab = await receivingLab()
    const { cluster } = lab
    await using receiver = await Receiver.start(lab)
    await cluster.sql('CREATE TABLE steps (n int)')
    await backUp(lab, ['--standalone'])
    await cluster.pgbench(['--initialize', '--scale=1', '--quiet'])
    await using load = cluster.startPgbench()
    await cluster.waitUntil('(SELECT count(*) > 200 FROM pgbench_history)')
    await load.stop()
    await cluster.sql('INSERT INTO steps VALUES (1)')
    const [{ moment }] = (await cluster.sql<{ moment: string }>(
      `SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS moment`,
    )) as [{ moment: string }]
    await cluster.sql('INSERT INTO steps VALUES (2)')
    await untilReceived(lab)
    const history = await cluster.sql('SELECT count(*) AS rows, sum(delta) FROM pgbench_history')
    await cluster.kill9()
    await rm(cluster.dataDirectory, { recursive: true })
    await receiver.says(/not receiving/)
    expect(await receiver.stop()).toMatchObject({ exitCode: 0 })
    // The newest whole one stays, to go on from.
    expect(readdirSync(folderOf(lab)).length).toBe(2)

    const end = await recover(lab, 'end')
    await end.waitForPromotion()
    expect(await end.sql('SELECT count(*) AS rows, sum(delta) FROM pgbench_history')).toEqual(history)
    expect(await steps(end)).toEqual([1, 2])
    const earlier = await recover(lab, 'earlier', ['--time', moment])
    await earlier.waitForPaused()
    expect(await steps(earlier)).toEqual([1])
  },
)

withServer('as the synchronous standby, it loses no commit that was acknowledged', async (context) => {
  requireServer(context)
  await using lab = await receivingLab({ settings: { synchronous_standby_names: 'pgrecall' } })
  const { cluster } = lab
  await using receiver = await Receiver.start(lab, ['--synchronous'])
  await cluster.sql('CREATE TABLE steps (n int)')
  await backUp(lab, ['--standalone'])
  const acknowledged: number[] = []
  const writers = [0, 1, 2].map(async (writer) => {
    await using session = await cluster.connect()
    for (let n = writer; ; n += 3) {
      try {
        await session.query(`INSERT INTO steps VALUES (${n})`)
      } catch {
        return
      }
      acknowledged.push(n)
    }
  })
  await poll(() => acknowledged.length > 500, { what: '500 commits' })
  await cluster.kill9()
  await Promise.all(writers)
  await rm(cluster.dataDirectory, { recursive: true })
  expect(await receiver.stop()).toMatchObject({ exitCode: 0 })
  expect(receiver.words).not.toContain('synchronous_standby_names')

  const restored = await recover(lab, 'restored', [], { settings: { synchronous_standby_names: '' } })
  await restored.waitForPromotion()
  const kept = new Set(await steps(restored))
  expect(acknowledged.filter((n) => !kept.has(n))).toEqual([])
})

withServer(
  'is killed, stopped, and its server and its repository go away: no gap, and nothing is left',
  async (context) => {
    requireServer(context)
    await using lab = await receivingLab()
    const { cluster } = lab
    await cluster.sql('CREATE TABLE steps (n int)')
    let step = 0
    const write = async (segments: number) => {
      for (let count = 0; count < segments; count++) {
        await cluster.sql(`INSERT INTO steps VALUES (${++step}); SELECT pg_switch_wal()`)
      }
    }
    {
      await using receiver = await Receiver.start(lab)
      await backUp(lab, ['--standalone'])
      await write(3)
      await untilReceived(lab)
      await receiver.kill9()
      await untilNoReceiver(cluster)
    }
    await write(3)
    await using receiver = await Receiver.start(lab)
    await write(3)
    await cluster.stop('fast')
    await receiver.says(/not receiving/)
    await cluster.start()
    await receiver.says(/Receiving again/)
    const giveBack = await takeAway(lab.repository)
    await write(3)
    await untilReceived(lab)
    await receiver.says(/WAL cannot be stored in repository "local"/)
    await pause(1000)
    expect(readdirSync(folderOf(lab)).filter((name) => name.length === 24).length).toBeGreaterThanOrEqual(3)
    await giveBack()
    await receiver.says(/Repository "local" can be written again/)
    await receiver.stop()
    await using last = await Receiver.start(lab)
    await write(2)
    await untilReceived(lab)
    await last.stop()

    const { whole, receiving } = storedSegments(lab)
    const numbers = whole.map((name) => Number.parseInt(name.slice(-8), 16))
    expect(numbers).toEqual(numbers.map((_number, index) => numbers[0]! + index))
    expect(
      receiving.map((name) => Number.parseInt(name.slice(-8), 16)).every((n) => n > numbers.at(-1)!),
    ).toBe(true)
    expect(readdirSync(folderOf(lab)).every((name) => parseWalFile(name))).toBe(true)
    const restored = await recover(lab, 'restored')
    await restored.waitForPromotion()
    expect(await steps(restored)).toEqual(Array.from({ length: step }, (_, index) => index + 1))
  },
)

withServer(
  'a repository that is away holds up no other, and gets all of it when it is back',
  async (context) => {
    requireServer(context)
    await using scratch = await Scratch.create()
    const second = join(scratch.path, 'second')
    await makeRepository(second)
    await using lab = await receivingLab({
      configure: ({ repositories, clusters }) => {
        repositories.second = { type: 'local', path: second }
        clusters.main!.repositories = ['second', 'local']
      },
    })
    const { cluster } = lab
    await cluster.sql('CREATE TABLE steps (n int)')
    await using receiver = await Receiver.start(lab)
    await cluster.sql('INSERT INTO steps VALUES (0); SELECT pg_switch_wal()')
    await poll(() => existsSync(join(second, 'main/cluster.json')), { what: 'the first WAL' })
    const giveBack = await takeAway(second)
    for (const n of [1, 2, 3]) await cluster.sql(`INSERT INTO steps VALUES (${n}); SELECT pg_switch_wal()`)
    await cluster.sql('INSERT INTO steps VALUES (4)')
    await untilReceived(lab)
    await receiver.says(/WAL cannot be stored in repository "second"/)
    const first = await poll(
      () => {
        const { whole, receiving } = storedSegments(lab)
        return whole.length >= 4 && receiving.length === 1 ? whole : undefined
      },
      { what: 'the other repository' },
    )
    for (const name of first.slice(1)) expect(readdirSync(folderOf(lab))).toContain(name)
    await giveBack()
    await receiver.says(/Repository "second" can be written again/)
    await receiver.stop()
    expect(storedSegments(lab, second)).toEqual(storedSegments(lab))
    expect(readdirSync(folderOf(lab)).length).toBe(2)
  },
)

async function steps(server: Cluster): Promise<number[]> {
  return (await server.sql<{ n: number }>('SELECT n FROM steps ORDER BY n')).map(({ n }) => n)
}

/** A killed wal-receive must not leave a `pg_receivewal` that holds the slot. */
async function untilNoReceiver(cluster: Cluster): Promise<void> {
  await cluster.waitUntil(`NOT EXISTS (SELECT FROM pg_replication_slots WHERE active)`)
}
