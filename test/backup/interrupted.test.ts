import { existsSync } from 'node:fs'
import { readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { Lab } from '../lab/lab.ts'
import { poll } from '../lab/poll.ts'
import { resultOf } from '../lab/product.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { backUp, failureOf, listedBackups, recover } from './commands.ts'

const SLOWLY = ['backup', '--json', '--jobs', '1', '--compression', 'zstd:19']
const WAITS_FOR_CHECKPOINT = `EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'pgrecall'
  AND query LIKE '%pg_backup_start%' AND state = 'active')`
const TERMINATE = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgrecall'`

let lab: Lab

describe.skipIf(!findPrograms() && !process.env.CI)('a backup that is interrupted', () => {
  beforeAll(async () => {
    lab = await Lab.create({ settings: { checkpoint_timeout: '1h', checkpoint_completion_target: 0.9 } })
    // Bytes that do not compress keep the compressor busy for seconds.
    await lab.cluster.sql(
      'CREATE TABLE noise (bytes bytea); ALTER TABLE noise ALTER bytes SET STORAGE EXTERNAL',
    )
    await lab.cluster.sql(
      `INSERT INTO noise SELECT decode(string_agg(md5(random()::text), ''), 'hex')
       FROM generate_series(1, 2000000) AS n GROUP BY n % 1000`,
    )
  })
  beforeEach((context) => void requireServer(context))
  afterEach(async () => {
    expect(await listedBackups(lab)).toEqual([])
  })
  afterAll(() => lab?.[Symbol.asyncDispose]())

  test.each(['SIGINT', 'SIGTERM'] as const)('by %s during the copy removes what it wrote', async (signal) => {
    const running = await startCopying()
    running.process.kill(signal)
    expect(await endOf(running)).toMatchObject({ exitCode: 130, kind: 'interrupted' })
    await expectNothingLeft()
  })

  test('by SIGINT while it waits for a spread checkpoint does not wait on', async () => {
    await lab.cluster.sql('UPDATE noise SET bytes = bytes')
    const running = await lab.startPgrecall(['backup', '--json', '--checkpoint', 'spread'])
    await lab.cluster.waitUntil(WAITS_FOR_CHECKPOINT)
    running.process.kill('SIGINT')
    expect(await endOf(running)).toMatchObject({ exitCode: 130, kind: 'interrupted' })
    // It ended before the checkpoint did, which this one hurries up.
    expect(await lab.cluster.sql(`SELECT ${WAITS_FOR_CHECKPOINT} AS waits`)).toEqual([{ waits: true }])
    await lab.cluster.sql('CHECKPOINT')
    await lab.cluster.waitUntil(`NOT ${WAITS_FOR_CHECKPOINT}`)
    await expectNothingLeft()
  })

  test('by SIGINT while it waits for its WAL does not wait on, and is gone on with', async () => {
    await lab.cluster.sql(`ALTER SYSTEM SET archive_command = 'false'`)
    await lab.cluster.sql('SELECT pg_reload_conf()')
    const running = await lab.startPgrecall(['backup', '--json'])
    let said = ''
    running.process.stderr?.on('data', (bytes: Buffer) => {
      said += bytes
    })
    await poll(() => said.includes('Waiting for WAL'), { what: 'the backup to wait for its WAL' })
    running.process.kill('SIGINT')
    expect(await endOf(running)).toMatchObject({ exitCode: 130, kind: 'interrupted' })
    expect(await listedBackups(lab)).toEqual([])
    await lab.cluster.sql('ALTER SYSTEM RESET ALL')
    await lab.cluster.sql('SELECT pg_reload_conf()')
    const record = await backUp(lab)
    expect(record.resumedBytes).toBeGreaterThan(30_000_000)
    await rm(join(lab.repository, 'main/backups'), { recursive: true })
  })

  test('by the end of its session during the copy says so', async () => {
    const running = await startCopying()
    await lab.cluster.sql(TERMINATE)
    const failure = await endOf(running)
    expect(failure).toMatchObject({ exitCode: 4, kind: 'connection' })
    expect(failure.message).toContain('session on the server was lost')
    await expectNothingLeft()
  })

  test('by the end of its session while the server works for it says so too', async () => {
    await lab.cluster.sql('UPDATE noise SET bytes = bytes')
    const running = await lab.startPgrecall(['backup', '--json', '--checkpoint', 'spread'])
    await lab.cluster.waitUntil(WAITS_FOR_CHECKPOINT)
    await lab.cluster.sql(TERMINATE)
    expect(await endOf(running)).toMatchObject({ exitCode: 4, kind: 'connection' })
    await expectNothingLeft()
  })

  test('by the death of the server says so', async () => {
    const running = await startCopying()
    await lab.cluster.kill9()
    expect(await endOf(running)).toMatchObject({ exitCode: 4, kind: 'connection' })
    await lab.cluster.start()
    await expectNothingLeft()
  })

  test('by SIGKILL, or held up by another one, gives way to the next backup, which cleans up', async () => {
    const running = await startCopying()
    const busy = await failureOf(lab, ['backup'])
    expect(busy).toMatchObject({ exitCode: 6, kind: 'busy' })
    expect(busy.message).toContain(`process ${running.process.pid}`)
    running.process.kill('SIGKILL')
    await running.process
    expect(await unfinished(running)).not.toEqual([])
    expect(await listedBackups(lab)).toEqual([])

    const record = await backUp(lab)
    expect(await listedBackups(lab)).toEqual([record.id])
    expect(await readdir(join(lab.repository, 'main/backups'))).toEqual([record.id])
    expect(await unfinished(running)).toEqual([])
    const server = await recover(lab, 'restored')
    await server.waitForPromotion()
    expect(await server.sql('SELECT count(*)::int AS n FROM noise')).toEqual([{ n: 1000 }])
    await rm(join(lab.repository, 'main/backups', record.id), { recursive: true })
  })
})

type Running = Awaited<ReturnType<Lab['startPgrecall']>>

/** A backup that is in the middle of its first shard. */
async function startCopying(): Promise<Running> {
  const running = await lab.startPgrecall(SLOWLY)
  await poll(async () => (await unfinished(running)).some((bytes) => bytes > 4_000_000), {
    what: 'the first megabytes of the backup',
    everyMs: 5,
  })
  return running
}

async function endOf(
  running: Running,
): Promise<{ exitCode: number | undefined; kind: string; message: string }> {
  const { exitCode, stdout, stderr } = await resultOf(running.process)
  if (!stdout) throw new Error(`it ended with ${exitCode}:\n${stderr}`)
  return { exitCode, ...JSON.parse(stdout).error }
}

/** Bytes of what it is writing. Beside it, the server's own wal-push may be writing too. */
async function unfinished(running: Running): Promise<number[]> {
  const incoming = join(lab.repository, '.incoming')
  const names = existsSync(incoming) ? await readdir(incoming) : []
  const own = names.filter((name) => name.startsWith(`${running.process.pid}@`))
  const facts = await Promise.all(own.map((name) => stat(join(incoming, name)).catch(() => undefined)))
  return facts.map((fact) => fact?.size ?? 0)
}

/** Not even the folder of the backup. */
async function expectNothingLeft(): Promise<void> {
  expect(existsSync(join(lab.repository, 'main/backups'))).toBe(false)
  expect(existsSync(join(lab.repository, 'main/locks'))).toBe(false)
}
