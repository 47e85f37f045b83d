import { closeSync, openSync, readdirSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { readShardIndex } from '../../src/catalog/shard-index.ts'
import { Events } from '../../src/events.ts'
import { identifySystem } from '../../src/postgres/replication.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { SmallDisk } from '../crash/small-disk.ts'
import { tableChecksums } from '../lab/checksums.ts'
import { Cluster, type ClusterOptions } from '../lab/cluster.ts'
import { requireServer } from '../lab/programs.ts'
import { plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'
import { FOLDER, openStorageIn, putTogether, SOURCES, type StreamedLab, stream } from './streamed.ts'

interface OwnedLab extends StreamedLab, AsyncDisposable {}

async function createLab(options: Omit<ClusterOptions, 'within'> = {}): Promise<OwnedLab> {
  await using owned = new AsyncDisposableStack()
  const scratch = owned.use(await Scratch.create('stream'))
  const cluster = owned.use(await Cluster.create({ within: scratch, ...options }))
  const storage = await openStorageIn(scratch)
  const all = owned.move()
  return { scratch, cluster, storage, [Symbol.asyncDispose]: () => all.disposeAsync() }
}

const SENDERS = `SELECT count(*)::int AS senders FROM pg_stat_activity WHERE backend_type = 'walsender'`

describe.each(SOURCES)('a base backup by the %s', (kind) => {
  test('arrives with its WAL and starts', async (context) => {
    requireServer(context)
    await using lab = await createLab()
    await lab.cluster.pgbench(['--initialize', '--scale=2', '--quiet'])
    const before = await tableChecksums(lab.cluster)
    const progress: number[] = []
    const events = new Events().on('progress', ({ bytes }) => progress.push(bytes))
    const streamed = await stream(lab, kind, { label: `it's "mine"` }, { events })

    const groups = streamed.shards.map((shard) => shard.group)
    expect(groups.filter((group) => group === 'base').length).toBeGreaterThan(1)
    expect(groups.at(-1)).toBe('wal')
    expect(streamed.label).toContain(`LABEL: it's "mine"\n`)
    expect(streamed.stop.lsn).toBeGreaterThan(streamed.start.start)
    expect(streamed.warnings).toEqual([])
    const plain = streamed.shards.reduce((sum, shard) => sum + shard.fileBytes, 0)
    expect(progress.at(-1)).toBe(plain)
    expect(
      (await identifySystem({ host: lab.cluster.host, port: lab.cluster.port, user: 'postgres' })).timeline,
    ).toBe(streamed.stop.timeline)

    await using copy = await putTogether(lab, streamed)
    await copy.start()
    expect(await tableChecksums(copy)).toEqual(before)
  })

  test('is stopped by the signal, on the server too', async (context) => {
    requireServer(context)
    await using lab = await createLab()
    const stop = new AbortController()
    const events = new Events().on('progress', ({ bytes }) => {
      if (bytes > 0) stop.abort(new Error('enough'))
    })
    const streaming = stream(lab, kind, { maxRateKiB: 1024 }, { signal: stop.signal, events })
    await expect(streaming).rejects.toThrow('enough')
    await lab.cluster.waitUntil(`(${SENDERS}) = 0`)
    expect(readdirSync(`${lab.storage.location}/.incoming`)).toEqual([])
  })

  test('fails with a sentence when the server dies', async (context) => {
    requireServer(context)
    await using lab = await createLab()
    let killed: Promise<void> | undefined
    const events = new Events().on('progress', ({ bytes }) => {
      if (bytes > 0) killed ??= lab.cluster.kill9()
    })
    const streaming = stream(lab, kind, { maxRateKiB: 1024 }, { events })
    await expect(streaming).rejects.toMatchObject({
      kind: 'connection',
      hint: expect.stringContaining('log'),
    })
    await killed
  })

  test('tells of a damaged page and is whole all the same', async (context) => {
    requireServer(context)
    await using lab = await createLab()
    await lab.cluster.sql(`CREATE TABLE hurt AS SELECT generate_series(1, 5000) AS n; CHECKPOINT`)
    const [row] = await lab.cluster.sql<{ path: string }>(`SELECT pg_relation_filepath('hurt') AS path`)
    const file = openSync(join(lab.cluster.dataDirectory, row!.path), 'r+')
    writeSync(file, Buffer.from('damage'), 0, 6, 2 * 8192 + 4000)
    closeSync(file)
    const streamed = await stream(lab, kind)
    expect(streamed.warnings.join('\n')).toMatch(new RegExp(`${row!.path}", block 2`))
    expect(streamed.warnings.at(-1)).toMatch(/damaged pages/)
  })
})

test('tablespaces arrive in shards of their own, while the cluster is written to', async (context) => {
  requireServer(context)
  await using lab = await createLab()
  const spaces = ['first', 'second']
  for (const name of spaces) {
    await lab.cluster.sql(`CREATE TABLESPACE ${name} LOCATION '${await lab.scratch.folder(`space-${name}`)}'`)
  }
  await lab.cluster.pgbench(['--initialize', '--scale=3', '--quiet', '--tablespace=first'])
  await lab.cluster.sql('CREATE TABLE apart TABLESPACE second AS SELECT generate_series(1, 100000) AS n')
  await using load = lab.cluster.startPgbench()
  await lab.cluster.waitUntil('(SELECT count(*) > 20 FROM pgbench_history)')
  const streamed = await stream(lab, 'protocol')
  await load.stop()

  const oids = await lab.cluster.sql<{ oid: string }>(
    `SELECT oid::text AS oid FROM pg_tablespace WHERE spcname IN ('first', 'second')`,
  )
  const groups = new Set(streamed.shards.map((shard) => shard.group))
  expect(groups).toEqual(new Set(['base', 'wal', ...oids.map(({ oid }) => oid)]))
  await using copy = await putTogether(lab, streamed)
  await copy.start()
  const [sums] = await copy.sql<Record<string, string>>(`
    SELECT (SELECT sum(abalance) FROM pgbench_accounts)::text AS accounts, (SELECT sum(delta) FROM pgbench_history)::text AS history,
           (SELECT count(*) FROM pgbench_history)::int > 20 AS moved, (SELECT count(*)::int FROM apart) AS apart`)
  expect(sums!.accounts).toBe(sums!.history)
  expect(sums).toMatchObject({ moved: true, apart: 100000 })
  await copy.run('pg_amcheck', ['--all', '--install-missing'])
})

test('the index of a shard says where each file lies', async (context) => {
  requireServer(context)
  await using lab = await createLab()
  const streamed = await stream(lab, 'protocol', { wal: false })
  const indexes = await Promise.all(
    streamed.shards.map(({ index }) =>
      readShardIndex(plainRepository('local', lab.storage), FOLDER + index.local!.name),
    ),
  )
  const paths = (await Promise.all(indexes.map((index) => Array.fromAsync(index!.files))))
    .flat()
    .map(({ path }) => path)
  expect(paths).toContain('PG_VERSION')
  expect(
    paths.filter((path) =>
      /^(?:backup_label|backup_manifest|tablespace_map|global\/pg_control|pg_wal)/.test(path),
    ),
  ).toEqual([])
})

test('the program is not waited for when the archiver fails', async (context) => {
  requireServer(context)
  await using lab = await createLab({ archiveCommand: 'false' })
  const streaming = stream(lab, 'program', { wal: false }, { archiveTimeoutMs: 500 })
  await expect(streaming).rejects.toMatchObject({
    kind: 'failed',
    message: expect.stringContaining('waits for its archiver'),
  })
  // We do not let the server wait: whether the WAL is there is for the caller to see.
  await expect(stream(lab, 'protocol', { wal: false }, { archiveTimeoutMs: 500 })).resolves.toBeDefined()
})

test('a full repository ends the session, and nothing is left', async (context) => {
  requireServer(context)
  await using lab = await createLab()
  await using disk = await SmallDisk.mount(await lab.scratch.folder('disk'), 4)
  if (!disk) return context.skip('mounting a file system needs root')
  const storage = new LocalStorage(join(disk.path, 'repository'))
  await storage.create()
  const codec = { method: 'none' } as const
  await expect(stream({ ...lab, storage }, 'protocol', {}, { codec })).rejects.toMatchObject({
    kind: 'repository',
    message: expect.stringContaining('cannot write'),
  })
  await lab.cluster.waitUntil(`(${SENDERS}) = 0`)
  expect(readdirSync(`${storage.location}/.incoming`)).toEqual([])
})
