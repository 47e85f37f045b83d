import { closeSync, openSync, writeSync } from 'node:fs'
import { readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { nameToBytes } from '../../src/archive/file-name.ts'
import { filesMethod } from '../../src/backup/files.ts'
import { canStreamIncrements, streamMethod } from '../../src/backup/stream.ts'
import { formatLsn } from '../../src/postgres/lsn.ts'
import { type WalRange, writeManifest } from '../../src/postgres/manifest.ts'
import { readPlace } from '../../src/postgres/replication.ts'
import { Server } from '../../src/postgres/server.ts'
import { tableChecksums } from '../lab/checksums.ts'
import { Cluster, type ClusterOptions } from '../lab/cluster.ts'
import { findPrograms } from '../lab/programs.ts'
import { Scratch } from '../lab/scratch.ts'
import { StreamChain } from './stream-chain.ts'
import { connectionOf, openStorageIn, SOURCES, type StreamedLab, stream as streamBy } from './streamed.ts'

interface ChainLab extends StreamedLab, AsyncDisposable {
  chain: StreamChain
}

/** A server that summarises its WAL, and a chain of backups that has no link yet. */
async function createLab(settings: ClusterOptions['settings'] = { summarize_wal: true }): Promise<ChainLab> {
  await using owned = new AsyncDisposableStack()
  const scratch = owned.use(await Scratch.create('increments'))
  const cluster = owned.use(await Cluster.create({ within: scratch, settings }))
  const lab = { scratch, cluster, storage: await openStorageIn(scratch) }
  const all = owned.move()
  return { ...lab, chain: new StreamChain(lab), [Symbol.asyncDispose]: () => all.disposeAsync() }
}

/** @param kind by PostgreSQL's program, which is looked for in PATH, or by ourselves where there is none */
function stream({ cluster }: StreamedLab, kind: (typeof SOURCES)[number]) {
  const env = kind === 'program' ? { PATH: cluster.programs.bin } : {}
  return streamMethod(() => Server.connect(connectionOf(cluster)), connectionOf(cluster), env)
}

test('servers before 17 are known not to send any', () => {
  expect(canStreamIncrements({ version: 160_010 })).toContain('PostgreSQL 16')
  expect(canStreamIncrements({ version: 170_000 })).toBeUndefined()
})

describe.skipIf((findPrograms()?.major ?? 0) < 17)('an incremental backup of the server', () => {
  test.each(SOURCES)('by the %s makes a chain with others', async (kind) => {
    await using lab = await createLab()
    const { cluster, chain } = lab
    if (kind === 'protocol') {
      await cluster.sql(`CREATE TABLESPACE apart LOCATION '${await lab.scratch.folder('apart')}'`)
    }
    await cluster.pgbench([
      '--initialize',
      '--scale=3',
      '--quiet',
      ...(kind === 'protocol' ? ['--tablespace=apart'] : []),
    ])
    if (kind === 'program') {
      await using server = await Server.connect(connectionOf(cluster))
      await chain.add(filesMethod(server, undefined))
    } else await chain.add(stream(lab, kind))

    for (const round of [1, 2]) {
      await cluster.pgbench(['--transactions=50', '--no-vacuum'])
      await cluster.sql(
        `CREATE TABLE new_${round} AS SELECT generate_series(1, 10000) AS n; TRUNCATE pgbench_tellers`,
      )
      const steps: string[] = []
      chain.events.on('step', ({ text }) => steps.push(text))
      const { taken } = await chain.add(stream(lab, kind))
      expect(steps.join('\n')).toContain(
        kind === 'program' ? 'by pg_basebackup' : 'by the replication protocol',
      )
      expect(taken.increment).toEqual({ source: 'server', changedBlocks: expect.any(Number) })
      expect(taken.increment!.changedBlocks).toBeGreaterThan(50)
      const { start, timeline } = chain.links.at(-2)!.taken.ends
      expect(taken.ends.label).toContain(
        `INCREMENTAL FROM LSN: ${formatLsn(start.lsn)}\nINCREMENTAL FROM TLI: ${timeline}\n`,
      )
      expect(taken).toMatchObject({ damaged: [], warnings: [] })
    }

    const before = await tableChecksums(cluster)
    const combined = await chain.combine('combined')
    const increments = [...(await chain.filesOf(chain.links.at(-1)!))].filter(([, file]) => file.fileSize)
    expect(increments.length).toBeGreaterThan(100)
    for (const [path, { fileSize }] of increments) {
      expect(path).toContain('INCREMENTAL.')
      expect([path, (await stat(join(combined, path.replace('INCREMENTAL.', '')))).size]).toEqual([
        path,
        fileSize,
      ])
    }
    await using copy = await Cluster.adopt(combined, {
      within: lab.scratch,
      programs: cluster.programs,
      settings: { allow_in_place_tablespaces: true },
    })
    await copy.start()
    expect(await tableChecksums(copy)).toEqual(before)
    await copy.run('pg_amcheck', ['--all', '--install-missing', '--heapallindexed'])
  })

  test.each(SOURCES)('by the %s that the server refuses says why, and what to do', async (kind) => {
    await using lab = await createLab()
    const { cluster } = lab
    const { position } = await readPlace(connectionOf(cluster))
    const [row] = await cluster.sql<{ id: string }>(
      'SELECT system_identifier::text AS id FROM pg_control_system()',
    )
    const upon = (range: Partial<WalRange>, systemIdentifier = row!.id) =>
      streamBy(
        lab,
        kind,
        {},
        {
          increment: {
            blockBytes: 8192,
            relationSegmentBlocks: 131_072,
            requireFit: async () => {},
            manifest: () =>
              writeManifest(
                { systemIdentifier, majorVersion: cluster.programs.major },
                [],
                [{ timeline: 1, start: position, end: position, ...range }],
                nameToBytes,
              ),
          },
        },
      )
    const refusal = (message: string, hint: string) => ({
      kind: 'failed',
      message: expect.stringContaining(message),
      hint: expect.stringContaining(hint),
    })
    await expect(upon({}, '1')).rejects.toMatchObject(refusal('of another cluster', '--type full'))
    await expect(upon({ timeline: 7 })).rejects.toMatchObject(
      refusal("not in this server's history: timeline 7", '--type full'),
    )
    await expect(upon({ end: position + 0x10000000n })).rejects.toMatchObject(
      refusal('ends behind the start of this one', 'CHECKPOINT'),
    )
    await expect(upon({ start: 0x28n })).rejects.toMatchObject(
      refusal('has not summarised all WAL', 'wal_summary_keep_time'),
    )
    await cluster.sql('ALTER SYSTEM SET summarize_wal = off')
    await cluster.sql('SELECT pg_reload_conf()')
    await cluster.waitUntil(`current_setting('summarize_wal') = 'off'`)
    await expect(upon({})).rejects.toMatchObject(refusal('does not summarise', 'summarize_wal = on'))
    await cluster.waitUntil(`NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'walsender')`)
  })

  test.each(SOURCES)('by the %s says that the server waits for its summaries', async (kind) => {
    await using lab = await createLab()
    const { cluster, chain } = lab
    await chain.add(stream(lab, kind))
    const [row] = await cluster.sql<{ pid: number }>(
      `SELECT pid FROM pg_stat_activity WHERE backend_type = 'walsummarizer'`,
    )
    process.kill(row!.pid, 'SIGSTOP')
    chain.events.on('step', ({ text }) => {
      if (text.startsWith('The server says: still waiting for WAL summarization'))
        process.kill(row!.pid, 'SIGCONT')
    })
    const { taken } = await chain.add(stream(lab, kind))
    expect(taken.warnings).toEqual([])
  })

  test('finds a damaged page among those that it brings', async () => {
    await using lab = await createLab()
    const { cluster, chain } = lab
    await cluster.sql('CREATE TABLE hurt AS SELECT generate_series(1, 20000) AS n')
    await chain.add(stream(lab, 'program'))
    // Rows in blocks 2 and 3, 5, and new ones at the end.
    await cluster.sql(`UPDATE hurt SET n = 0 WHERE ctid IN ('(2,1)', '(3,1)', '(5,1)'); CHECKPOINT`)
    const [row] = await cluster.sql<{ path: string }>(`SELECT pg_relation_filepath('hurt') AS path`)
    const file = openSync(join(cluster.dataDirectory, row!.path), 'r+')
    for (const block of [3, 5]) writeSync(file, Buffer.from('damage'), 0, 6, block * 8192 + 4000)
    closeSync(file)
    const { taken } = await chain.add(stream(lab, 'program'))
    expect(taken.damaged).toEqual([
      {
        path: row!.path,
        pages: 2,
        blocks: [
          [3, 3],
          [5, 5],
        ],
      },
    ])
  })

  test('is not begun, and not kept, where the summaries do not tell all', async () => {
    await using lab = await createLab()
    const { cluster, chain } = lab
    const method = stream(lab, 'protocol')
    await chain.add(method)
    const fault = () => method.cannotBuildUpon!(chain.parent!)
    expect(await fault()).toBeUndefined()

    await cluster.sql('CREATE TABLE shrinks AS SELECT generate_series(1, 100000) AS n')
    await cluster.sql('DELETE FROM shrinks WHERE n > 1000')
    await cluster.sql('VACUUM shrinks')
    await expect(chain.add(method)).rejects.toMatchObject({
      kind: 'failed',
      message: expect.stringMatching(/could not be trusted, and was given up: .*cut and grew again/),
    })
    await cluster.waitUntil(`NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'walsender')`)
    expect(await fault()).toMatch(/cut and grew again/)

    const summaries = join(cluster.dataDirectory, 'pg_wal', 'summaries')
    for (const name of await readdir(summaries)) await rm(join(summaries, name))
    expect(await fault()).toMatch(/^timeline 1 has no WAL summary from/)

    await cluster.sql('ALTER SYSTEM SET summarize_wal = off')
    await cluster.sql('SELECT pg_reload_conf()')
    await cluster.waitUntil(`current_setting('summarize_wal') = 'off'`)
    expect(await fault()).toBe('summarize_wal is off')
  })
})
