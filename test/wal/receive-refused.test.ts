import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { parseWalFile } from '../../src/postgres/wal-file.ts'
import { backUp, failureOf } from '../backup/commands.ts'
import { Cluster } from '../lab/cluster.ts'
import { makeRepository } from '../lab/lab.ts'
import { poll } from '../lab/poll.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { Scratch } from '../lab/scratch.ts'
import {
  folderOf,
  Receiver,
  receiveInto,
  receivingLab,
  storedSegments,
  takeAway,
  untilReceived,
} from './receive-lab.ts'

const withServer = test.skipIf(!findPrograms() && !process.env.CI)

const slots = (cluster: Cluster) => cluster.sql('SELECT slot_name, active FROM pg_replication_slots')

withServer(
  'the slot is made, held against a second one, and removed when it is asked for',
  async (context) => {
    requireServer(context)
    await using lab = await receivingLab()
    await using receiver = await Receiver.start(lab)
    expect(receiver.words).toContain('(made now)')
    await lab.cluster.waitUntil(
      `EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = 'pgrecall' AND active)`,
    )
    expect(await failureOf(lab, ['wal-receive'])).toMatchObject({
      exitCode: 6,
      message: expect.stringMatching(/another wal-receive/),
    })
    expect(await failureOf(lab, ['wal-receive', '--drop-slot'])).toMatchObject({
      exitCode: 6,
      hint: expect.stringMatching(/stop/),
    })
    expect(await receiver.stop()).toMatchObject({
      exitCode: 0,
      stdout: expect.stringContaining('--drop-slot'),
    })
    expect(await slots(lab.cluster)).toEqual([{ slot_name: 'pgrecall', active: false }])
    expect(await lab.pgrecall(['wal-receive', '--drop-slot'])).toMatchObject({
      exitCode: 0,
      stdout: expect.stringContaining('is removed'),
    })
    expect(await slots(lab.cluster)).toEqual([])
    expect((await lab.pgrecall(['wal-receive', '--drop-slot'])).stdout).toContain('There is no slot')
  },
)

withServer('what stands against it is said at once, in sentences', async (context) => {
  requireServer(context)
  await using lab = await receivingLab({ fresh: true })
  await lab.cluster.sql('CREATE ROLE plain LOGIN')
  const connect = (changes: Record<string, unknown>, cluster = lab.cluster) =>
    lab.writeConfiguration((it) => {
      receiveInto(it, folderOf(lab))
      const { host, port, user } = cluster
      it.clusters.main!.connection = { host, port, user, ...changes }
    })
  await connect({ user: 'plain' })
  expect(await failureOf(lab, ['wal-receive'])).toMatchObject({
    exitCode: 4,
    message: expect.stringContaining('does not let us receive WAL'),
    hint: expect.stringContaining('ALTER ROLE "plain" REPLICATION'),
  })
  // No other right is needed, and no database.
  await lab.cluster.sql('ALTER ROLE plain REPLICATION')
  {
    await using receiver = await Receiver.start(lab)
    await lab.cluster.sql('SELECT pg_switch_wal()')
    await untilReceived(lab)
    expect(await receiver.stop()).toMatchObject({ exitCode: 0 })
  }
  await connect({})
  await backUp(lab, ['--standalone'])
  await using other = await Cluster.create({
    within: lab.scratch,
    name: 'other',
    initdb: ['--wal-segsize=1'],
  })
  await connect({}, other)
  expect(await failureOf(lab, ['wal-receive'])).toMatchObject({
    exitCode: 8,
    message: expect.stringMatching(/belongs to the PostgreSQL/),
  })
  expect(await slots(other)).toEqual([])
  await using minimal = await Cluster.create({
    within: lab.scratch,
    name: 'minimal',
    settings: { wal_level: 'minimal', max_wal_senders: 0 },
  })
  await connect({}, minimal)
  expect(await failureOf(lab, ['wal-receive'])).toMatchObject({
    exitCode: 5,
    message: expect.stringMatching(/wal_level is minimal/),
  })
  await connect({ port: 1 })
  const waiting = await lab.startPgrecall(['wal-receive', '--json'])
  await Promise.race([waiting.process, new Promise((resolve) => waiting.process.stderr!.on('data', resolve))])
  waiting.process.kill('SIGTERM')
  const { exitCode, stdout, stderr } = await waiting.process
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0, stderr: expect.stringContaining('trying again') })
  const events = String(stdout)
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  expect(events).toContainEqual({
    event: 'lost',
    reason: expect.any(String),
    text: expect.stringContaining('trying again'),
  })
})

withServer('WAL that the server removed is told, and what comes after it is received', async (context) => {
  requireServer(context)
  await using lab = await receivingLab()
  const { cluster } = lab
  await cluster.sql('CREATE TABLE steps (n int)')
  const write = async (n: number) =>
    cluster.sql(`INSERT INTO steps VALUES (${n}); SELECT pg_switch_wal(); CHECKPOINT`)
  await using receiver = await Receiver.start(lab)
  await backUp(lab, ['--standalone'])
  for (const n of [1, 2]) await write(n)
  await untilReceived(lab)
  await receiver.stop()
  const before = storedSegments(lab).whole
  expect((await lab.pgrecall(['wal-receive', '--drop-slot'])).exitCode).toBe(0)
  for (let n = 3; n < 30; n++) await write(n)
  await using again = await Receiver.start(lab)
  await again.says(/was not there any more/)
  await again.says(/the archive has a gap from there on/)
  await again.says(/Receiving again/)
  await write(30)
  await untilReceived(lab)
  await again.stop()
  const after = storedSegments(lab).whole.filter((name) => !before.includes(name))
  expect(after.length).toBeGreaterThan(0)
  expect((await lab.pgrecall(['list'])).stdout).toContain('holes')
})

withServer(
  'what was received before such a gap waits for a repository that is away, and holds up no other',
  async (context) => {
    requireServer(context)
    await using scratch = await Scratch.create()
    const second = join(scratch.path, 'second')
    await makeRepository(second)
    await using lab = await receivingLab({
      configure: ({ repositories, clusters }) => {
        repositories.second = { type: 'local', path: second }
        clusters.main!.repositories = ['local', 'second']
      },
    })
    const { cluster } = lab
    await cluster.sql('CREATE TABLE steps (n int)')
    const write = async (n: number) =>
      cluster.sql(`INSERT INTO steps VALUES (${n}); SELECT pg_switch_wal(); CHECKPOINT`)
    await using receiver = await Receiver.start(lab)
    await write(0)
    await poll(() => existsSync(join(second, 'main/cluster.json')), { what: 'the first WAL' })
    const giveBack = await takeAway(second)
    for (const n of [1, 2, 3]) await write(n)
    await untilReceived(lab)
    await receiver.stop()
    expect((await lab.pgrecall(['wal-receive', '--drop-slot'])).exitCode).toBe(0)
    for (let n = 4; n < 30; n++) await write(n)
    const before = storedSegments(lab).whole.length

    await using again = await Receiver.start(lab)
    await again.says(/the archive has a gap from there on/)
    await again.says(/Receiving again/)
    await write(30)
    await untilReceived(lab)
    await poll(() => storedSegments(lab).whole.length > before, { what: 'WAL from behind the gap' })
    await giveBack()
    await again.says(/Repository "second" can be written again/)
    await again.stop()
    expect(storedSegments(lab, second).whole).toEqual(storedSegments(lab).whole)
    expect(readdirSync(folderOf(lab)).every((name) => parseWalFile(name))).toBe(true)
  },
)
