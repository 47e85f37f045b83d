import { chmod, readdir } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { lookOver } from '../../src/checks/look-over.ts'
import { configurationOf } from '../../src/config/load.ts'
import { EXIT_CODES } from '../../src/errors.ts'
import { identifySystem } from '../../src/postgres/replication.ts'
import { Server } from '../../src/postgres/server.ts'
import { askServer } from '../../src/status/archiver.ts'
import { makeRepository } from '../lab/lab-repository.ts'
import { poll } from '../lab/poll.ts'
import { startPgrecall } from '../lab/product.ts'
import { Scratch } from '../lab/scratch.ts'
import { complete, ready, ToldServer } from '../postgres/told-server.ts'

/** What every session begins with. */
const BEGIN = 2
const NEVER = new AbortController().signal
const NO_ANSWER = 'no answer within 0.1 s'

let scratch: Scratch
let server: ToldServer
let sockets: Socket[]

beforeAll(async () => {
  scratch = await Scratch.create('stuck')
})
afterEach(() => server[Symbol.asyncDispose]())
afterAll(() => scratch[Symbol.asyncDispose]())

/** A server that accepts, lets in, answers so many commands, and is stopped then, as by SIGSTOP. */
async function listen(answers: number): Promise<void> {
  sockets = []
  server = await ToldServer.listen(scratch, (socket) => {
    if (!sockets.includes(socket)) sockets.push(socket)
    if (server.commands.length <= answers) socket.write(Buffer.concat([complete('SET'), ready]))
    if (server.commands.length >= answers) socket.pause()
  })
  await chmod(join(scratch.path, '.s.PGSQL.5432'), 0o777)
}

const connection = (answerMs: number, signal = NEVER) => ({
  ...server.connection,
  patience: { answerMs, signal },
})

const ask = (answerMs: number, signal = NEVER) =>
  askServer({
    connect: () => Server.connect(connection(answerMs, signal)),
    dataDirectory: undefined,
    systemIdentifier: undefined,
    slot: 'pgrecall',
    walSegmentBytes: 16 * 1024 * 1024,
    now: new Date(),
    signal,
  })

test.each([0, BEGIN])(
  'status does not wait for it, after %i answers, and ends the session',
  async (answers) => {
    await listen(answers)
    expect(await ask(100)).toMatchObject({ reachable: false, error: NO_ANSWER })
    const [socket] = sockets
    socket!.resume()
    await poll(() => socket!.destroyed, { what: 'the end of the session' })
  },
)

test.each([0, BEGIN])('check fails at the connection, after %i answers, and asks once', async (answers) => {
  await listen(answers)
  const loaded = configurationOf({
    repositories: { local: { type: 'local', path: scratch.path } },
    clusters: { main: { repositories: ['local'] } },
  })
  const findings = await lookOver({
    cluster: 'main',
    config: loaded.config.clusters.main!,
    loaded,
    repositories: () => [],
    connection: async () => connection(100),
    connect: () => Server.connect(connection(100)),
    checkMethod: async () => {},
    launcher: '/opt/bin/pgrecall',
    env: process.env,
    home: scratch.path,
    signal: NEVER,
    now: () => new Date(),
  })
  expect(findings).toContainEqual(
    expect.objectContaining({ verdict: 'fail', subject: 'connection', text: NO_ANSWER }),
  )
  expect(sockets).toHaveLength(1)
})

test('nor does it wait for an answer about replication, or for a goodbye', async () => {
  await listen(0)
  await expect(identifySystem(connection(100))).rejects.toThrow(NO_ANSWER)
  await server[Symbol.asyncDispose]()
  await listen(BEGIN)
  const session = await Server.connect(connection(100))
  await session.close()
})

test('a stop is a stop, and no answer', async () => {
  await listen(BEGIN)
  const stop = new AbortController()
  const asking = ask(600_000, stop.signal)
  await poll(() => server.commands.length === BEGIN, { what: 'a session' })
  stop.abort(new Error('stopped'))
  await expect(asking).rejects.toThrow('stopped')
})

test.each([['status'], ['check', '--read-only'], ['report', '--output', 'report.html']])(
  '%s ends at SIGTERM',
  async (...args) => {
    await listen(0)
    const path = join(scratch.path, 'repository')
    if (!(await readdir(scratch.path)).includes('repository')) await makeRepository(path)
    const cluster = { connection: server.connection, repositories: ['local'] }
    const content = { repositories: { local: { type: 'local', path } }, clusters: { main: cluster } }
    const config = await scratch.file('config.yaml', JSON.stringify(content))
    const { process } = await startPgrecall(['--config', config, ...args])
    await poll(() => server.commands.length === 1, { what: 'a session' })
    process.kill('SIGTERM')
    const { exitCode, stderr } = await process
    expect({ exitCode, stderr }).toEqual({
      exitCode: EXIT_CODES.interrupted.code,
      stderr: expect.stringContaining('stopped by SIGTERM'),
    })
  },
)
