import { existsSync } from 'node:fs'
import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { tableChecksums } from '../lab/checksums.ts'
import { Lab } from '../lab/lab.ts'
import { poll } from '../lab/poll.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { expectClean } from './clean.ts'
import { backUp, failureOf, listedBackups, recover } from './commands.ts'

const MIB = 1024 * 1024

describe.skipIf(!findPrograms() && !process.env.CI)('a backup that was interrupted', () => {
  let lab: Lab

  beforeAll(async () => {
    lab = await Lab.create({
      configure: ({ clusters }) => {
        clusters.main!.backup = { shardSize: '1MB' }
      },
    })
    for (const name of ['kept', 'changed', 'dropped']) {
      await lab.cluster.sql(
        `CREATE TABLE ${name} AS SELECT n, md5(n::text) FROM generate_series(1, 40000) AS n`,
      )
      // Else the first one who reads a row writes to its page.
      await lab.cluster.sql(`VACUUM FREEZE ${name}`)
    }
    await lab.cluster.sql('CHECKPOINT')
  })
  beforeEach((context) => void requireServer(context))
  afterAll(() => lab?.[Symbol.asyncDispose]())

  test.each(['SIGKILL', 'SIGTERM'] as const)(
    'by %s is gone on with: what has not changed is kept',
    async (signal) => {
      const before = await listedBackups(lab)
      await untilSettled()
      const id = await interrupt(signal, 12)
      expect(await listedBackups(lab)).toEqual(before)
      await lab.cluster.sql(`UPDATE changed SET md5 = 'new' WHERE n % 100 = 0`)
      await lab.cluster.sql('CREATE TABLE later AS TABLE kept; DROP TABLE dropped')
      await lab.cluster.sql('CHECKPOINT')

      const record = await backUp(lab)
      expect(record.id).toBe(id)
      // At least one of the tables that were not touched; never the one that was.
      expect(record.resumedBytes).toBeGreaterThan(MIB)
      expect(record.resumedBytes).toBeLessThan(record.dataBytes - MIB)
      const stored = await readdir(join(lab.repository, 'main/backups', id))
      expect(stored.sort()).toEqual([...record.objects.map(({ name }) => name), 'backup.json'].sort())

      const expected = await tableChecksums(lab.cluster)
      await lab.cluster.archiveWal()
      const server = await recover(lab, `restored-${signal}`)
      await server.waitForPromotion()
      expect(await tableChecksums(server)).toEqual(expected)
      await expectClean(server)
      await lab.cluster.sql('ALTER TABLE later RENAME TO dropped')
    },
  )

  test('begins anew with --no-resume, or with another codec', async () => {
    await untilSettled()
    const id = await interrupt('SIGKILL', 4)
    const record = await backUp(lab, ['--no-resume'])
    expect(record.resumedBytes).toBe(0)
    expect(record.id).not.toBe(id)
    expect(existsSync(join(lab.repository, 'main/backups', id))).toBe(false)
    await interrupt('SIGKILL', 4)
    expect((await backUp(lab, ['--compression', 'gzip:1'])).resumedBytes).toBe(0)
  })

  test('touches nothing any more once another host has taken the lock over', async () => {
    const before = await foldersOf()
    const failing = failureOf(lab, ['backup', '--no-resume', '--max-rate', '8MB'])
    const locks = join(lab.repository, 'main/locks')
    const lock = await poll(
      async () => {
        const [name] = await readdir(locks).catch(() => [])
        return (await foldersOf()).length > before.length ? name : undefined
      },
      { what: 'the first shard' },
    )
    const holder = JSON.parse(await readFile(join(locks, lock), 'utf8'))
    await writeFile(
      join(locks, lock),
      JSON.stringify({ ...holder, id: 'of another host', host: 'elsewhere' }),
    )
    expect(await failing).toMatchObject({ exitCode: 6, kind: 'busy' })
    // What lies there may be the other one's by now.
    const [folder] = (await foldersOf()).filter((name) => !before.includes(name))
    expect(await readdir(join(lab.repository, 'main/backups', folder!))).toContain('RESTORE.txt')
    expect(await readdir(locks)).toEqual([lock])
    await rm(locks, { recursive: true })
  })

  /** Stops a slow backup when it has stored so many shards. @returns its id */
  async function interrupt(signal: NodeJS.Signals, shards: number): Promise<string> {
    const before = await foldersOf()
    const { process: running } = await lab.startPgrecall(['backup', '--max-rate', '8MB'])
    let id: string | undefined
    await poll(
      async () => {
        id = (await foldersOf()).find((name) => !before.includes(name))
        const names = id === undefined ? [] : await readdir(join(lab.repository, 'main/backups', id))
        return names.filter((name) => name.includes('.index.')).length >= shards
      },
      { what: `${shards} shards`, everyMs: 10 },
    )
    running.kill(signal)
    await running
    return id!
  }

  async function foldersOf(): Promise<string[]> {
    const folder = join(lab.repository, 'main/backups')
    return existsSync(folder) ? readdir(folder) : []
  }

  /** A file that changed a moment ago says nothing by its time, so its shard would not be kept. */
  async function untilSettled(): Promise<void> {
    const paths = await lab.cluster.sql<{ path: string }>(
      `SELECT pg_relation_filepath(oid) AS path FROM pg_class WHERE relname IN ('kept', 'changed', 'dropped')`,
    )
    for (const { path } of paths) {
      const { mtimeMs } = await stat(join(lab.cluster.dataDirectory, path))
      await pause(Math.max(0, mtimeMs + 2500 - Date.now()))
    }
  }
})
