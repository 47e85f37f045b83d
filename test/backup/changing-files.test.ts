import { existsSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { copyGroups } from '../../src/backup/copy-pool.ts'
import { SourceList } from '../../src/backup/source-list.ts'
import { readShardIndex } from '../../src/catalog/shard-index.ts'
import { Events } from '../../src/events.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { Lab } from '../lab/lab.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'
import { asLabUser } from '../lab/user.ts'
import { backUp, recover, restoreTo } from './commands.ts'
import { plainStoreIn } from './opened.ts'

describe.skipIf(!findPrograms() && !process.env.CI)('a backup of a cluster that changes', () => {
  let lab: Lab

  beforeAll(async () => {
    lab = await Lab.create()
    await lab.cluster.pgbench(['--initialize', '--scale=1', '--quiet'])
  })
  beforeEach((context) => void requireServer(context))
  afterAll(() => lab?.[Symbol.asyncDispose]())

  test('leaves out what a server makes anew, and keeps the folders that it needs', async () => {
    const { cluster } = lab
    await cluster.sql('CREATE UNLOGGED TABLE unlogged AS SELECT generate_series(1, 10000) AS n')
    await using session = await cluster.connect()
    await session.query('CREATE TEMP TABLE temporary AS SELECT generate_series(1, 10000) AS n')
    const paths = await cluster.sql<{ unlogged: string; temporary: string }>(`
      SELECT pg_relation_filepath('unlogged') AS unlogged`)
    const temporary = await session.query<{ path: string }>(
      `SELECT pg_relation_filepath('temporary') AS path`,
    )
    const data = cluster.dataDirectory
    const make = `mkdir -p base/pgsql_tmp && echo x | tee base/pgsql_tmp/pgsql_tmp1.0 pg_notify/extra pg_stat_tmp/extra \\
      backup_label.old tablespace_map.old postgresql.auto.conf.tmp`
    await execa('sh', ['-c', make], { ...asLabUser, cwd: data })
    await writeFile(latin1('/global/caf\xe9', data), 'a name that is no UTF-8')
    await backUp(lab)
    const directory = await restoreTo(lab, 'lean')
    expect(await readFile(latin1('/global/caf\xe9', directory), 'utf8')).toBe('a name that is no UTF-8')
    await cluster.run('pg_verifybackup', ['-n', directory])
    for (const path of [
      paths[0]!.unlogged,
      temporary.rows[0]!.path,
      'base/pgsql_tmp',
      'pg_notify/extra',
      'pg_stat_tmp/extra',
      'backup_label.old',
      'tablespace_map.old',
      'postgresql.auto.conf.tmp',
      'postmaster.pid',
      'postmaster.opts',
    ]) {
      expect(existsSync(join(data, path)), path).toBe(true)
      expect(existsSync(join(directory, path)), path).toBe(false)
    }
    expect(existsSync(join(directory, `${paths[0]!.unlogged}_init`))).toBe(true)
    for (const folder of [
      'pg_wal/archive_status',
      'pg_notify',
      'pg_replslot',
      'pg_stat_tmp',
      'pg_subtrans',
    ]) {
      expect(existsSync(join(directory, folder)), folder).toBe(true)
    }
    const server = await lab.adopt(directory, { settings: { archive_mode: 'off' } })
    await server.start()
    await server.waitForPromotion()
    expect(await server.sql('SELECT count(*)::int AS n FROM unlogged')).toEqual([{ n: 0 }])
  })

  test('is not troubled by files that appear, grow, shrink and vanish', async () => {
    const { cluster } = lab
    await cluster.sql('CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n')
    const running = await lab.startPgrecall(['backup', '--json', '--jobs', '1', '--compression', 'zstd:12'])
    let isOver = false
    void running.process.finally(() => {
      isOver = true
    })
    const churn = async (statements: string[]) => {
      for (let round = 0; !isOver || round < 3; round++)
        for (const text of statements) await cluster.sql(text)
    }
    await Promise.all([
      churn(['CREATE DATABASE passing', 'DROP DATABASE passing']),
      churn([
        'CREATE TABLE brief AS SELECT generate_series(1, 100000) AS n',
        'DELETE FROM brief WHERE n > 100',
        'VACUUM brief',
        'TRUNCATE brief',
        'DROP TABLE brief',
      ]),
    ])
    const { exitCode } = await running.process
    expect(exitCode).toBe(0)
    await cluster.archiveWal()
    const server = await recover(lab, 'churned')
    await server.waitForPromotion()
    expect(await server.sql('SELECT count(*)::int AS n FROM kept')).toEqual([{ n: 1000 }])
    expect(await server.sql('SELECT count(*)::int AS n FROM pgbench_accounts')).toEqual([{ n: 100_000 }])
    await server.run('pg_amcheck', ['--heapallindexed', '--install-missing', 'postgres'])
  })
})

test('a copy passes over files and folders that vanished after they were listed', async () => {
  await using scratch = await Scratch.create()
  const root = await scratch.folder('source')
  await mkdir(join(root, 'there'))
  await writeFile(join(root, 'there/kept'), 'kept')
  const storage = new LocalStorage(join(scratch.path, 'repository'))
  const items = new SourceList()
  items.addFolder('gone')
  items.addFolder('there')
  items.addFiles('gone', [{ name: 'file', size: 100 }])
  // Listed with more bytes than it has now.
  items.addFiles('there', [{ name: 'kept', size: 9 }])
  const { shards, vanished } = await copyGroups([{ name: 'base', root, items }], {
    store: plainStoreIn(storage, 'main/backups/x/'),
    codec: { method: 'none' },
    jobs: 2,
    task: 'Copying',
    events: new Events(),
    signal: new AbortController().signal,
  })
  expect(vanished.sort()).toEqual(['gone', 'gone/file'])
  const index = await readShardIndex(
    plainRepository('local', storage),
    `main/backups/x/${shards[0]!.index.local!.name}`,
  )
  expect(await Array.fromAsync(index!.files)).toMatchObject([{ path: 'there/kept', size: 4 }])
  const stored = await readFile(join(scratch.path, 'repository/main/backups/x', shards[0]!.name))
  expect(stored.toString('latin1')).toContain('kept')
})

function latin1(name: string, folder: string): Buffer {
  return Buffer.concat([Buffer.from(folder), Buffer.from(name, 'latin1')])
}
