import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { describe, expect, test } from 'vitest'
import {
  parseBackupLabel,
  withIncrementalLines,
  withoutIncrementalLines,
} from '../../src/postgres/backup-label.ts'
import type { BlockChanges } from '../../src/postgres/block-changes.ts'
import {
  decodeIncrementalHeader,
  encodeIncrementalHeader,
  originalName,
} from '../../src/postgres/incremental-file.ts'
import { formatLsn, type Lsn, lsn } from '../../src/postgres/lsn.ts'
import { DEFAULT_BLOCKS_PER_SEGMENT, relationFork } from '../../src/postgres/relation-file.ts'
import { Server } from '../../src/postgres/server.ts'
import { parseHistory } from '../../src/postgres/timeline-history.ts'
import { firstGap, legsBetween, summariesFor } from '../../src/postgres/wal-summaries.ts'
import { Cluster } from '../lab/cluster.ts'
import { requireServer } from '../lab/programs.ts'
import { Scratch } from '../lab/scratch.ts'

type Context = Parameters<typeof requireServer>[0]

/** As `requireServer`; but a server that is too old is no fault of the machine, in CI neither. */
function requireSummaries(context: Context): void {
  const { version, major } = requireServer(context)
  if (major < 17) context.skip(`PostgreSQL ${version} summarises no WAL; it needs 17 or later`)
}

const FIRST = parseHistory('', 1)
const WAIT_MS = 60_000

const connect = ({ host, port, user }: Cluster) => Server.connect({ host, port, user, database: 'postgres' })

const backUp = async (cluster: Cluster, to: string, args: string[] = []) => {
  await cluster.run('pg_basebackup', ['--pgdata', to, '--checkpoint=fast', '--wal-method=none', ...args])
  const label = readFileSync(join(to, 'backup_label'), 'utf8')
  return { path: to, label, ...parseBackupLabel(label) }
}

/** Ends the redo cycle, and with it a summary. @returns where the next one begins */
async function checkpoint(cluster: Cluster): Promise<Lsn> {
  const [row] = await cluster.sql<{ redo: string }>(
    'CHECKPOINT; SELECT redo_lsn::text AS redo FROM pg_control_checkpoint()',
  )
  return lsn(row!.redo)
}

function changesOf(answer: Awaited<ReturnType<typeof summariesFor>>): BlockChanges {
  if ('missing' in answer) throw new Error(answer.missing)
  return answer.changes
}

/** All that happens to relations, over several summaries. */
async function work(cluster: Cluster): Promise<void> {
  await cluster.sql(`UPDATE touched SET filler = 'b' WHERE n % 500 = 0; DELETE FROM cut WHERE n > 2000`)
  await checkpoint(cluster)
  await cluster.sql('VACUUM cut')
  await checkpoint(cluster)
  await cluster.sql(`INSERT INTO cut SELECT n, repeat('c', 100) FROM generate_series(1, 9000) AS n`)
  await cluster.sql('TRUNCATE emptied; INSERT INTO emptied SELECT generate_series(1, 5000); DROP TABLE gone')
  await checkpoint(cluster)
  await cluster.sql('CREATE DATABASE copied STRATEGY file_copy')
  await cluster.sql('CREATE DATABASE logged STRATEGY wal_log')
  await cluster.sql('CREATE TABLE made AS SELECT generate_series(1, 100000) AS n; REINDEX TABLE touched')
  // More relations than one fetch brings.
  await cluster.sql(
    `DO $$ BEGIN FOR i IN 1..250 LOOP EXECUTE format('CREATE TABLE s%s AS SELECT 1 AS n', i); END LOOP; END $$`,
  )
  await cluster.sql(`SELECT lo_from_bytea(0, repeat('x', 100000)::bytea)`)
}

async function prepare(cluster: Cluster): Promise<void> {
  await cluster.sql(`
    CREATE TABLE touched AS SELECT n, repeat('a', 100) AS filler FROM generate_series(1, 50000) AS n;
    CREATE INDEX ON touched (n);
    CREATE TABLE cut AS SELECT n, repeat('a', 100) AS filler FROM generate_series(1, 20000) AS n;
    CREATE TABLE emptied AS SELECT n FROM generate_series(1, 20000) AS n;
    CREATE TABLE gone AS SELECT n FROM generate_series(1, 20000) AS n;
    CREATE TABLE quiet AS SELECT n FROM generate_series(1, 20000) AS n`)
  // A first reader sets hint bits, which changes every page where pages have checksums.
  await cluster.sql('VACUUM ANALYZE')
}

describe('on a server', { timeout: 120_000 }, () => {
  test('the changes are those of pg_walsummary, and hold all that PostgreSQL backs up', async (context) => {
    requireSummaries(context)
    await using scratch = await Scratch.create()
    await using cluster = await Cluster.create({
      within: scratch,
      settings: { summarize_wal: true, autovacuum: false },
    })
    await prepare(cluster)
    const full = await backUp(cluster, join(scratch.path, 'full'))
    await work(cluster)
    const incremental = await backUp(cluster, join(scratch.path, 'incremental'), [
      `--incremental=${join(full.path, 'backup_manifest')}`,
    ])
    await using server = await connect(cluster)
    const changes = changesOf(
      await summariesFor(server, {
        timelineHistory: FIRST,
        from: { lsn: full.start, timeline: 1 },
        to: { lsn: incremental.start, timeline: 1 },
        waitMs: WAIT_MS,
      }),
    )

    const told = await toldByPostgres(cluster, full.start, incremental.start)
    expect(told.size).toBeGreaterThan(250)
    for (const { space, database, relation, limit, blocks } of told.values()) {
      const found = changes.of({ space, database, relation, segment: 0 })
      if (relation === 0) expect(found).toBe('whole')
      else if (found !== 'whole') {
        expect([...found.blocks]).toEqual([...blocks].sort((a, b) => a - b))
        expect(found.limit).toBe(limit)
      }
    }
    const [copied] = await cluster.sql<{ oid: number }>(
      `SELECT oid FROM pg_database WHERE datname = 'copied'`,
    )
    expect(changes.of({ space: 1663, database: copied!.oid, relation: 1259, segment: 0 })).toBe('whole')
    expect(changes.hasCuts).toBe(true)

    const files = incrementalFiles(incremental.path)
    expect(files.length).toBeGreaterThan(100)
    let equal = 0
    for (const { path, bytes } of files) {
      const header = decodeIncrementalHeader(bytes, 8192)!
      const { truncationBlocks, blockCount, headerBytes } = header
      const blocks = header.blocks!
      expect(bytes.length).toBe(headerBytes + blockCount * 8192)
      const encoded = encodeIncrementalHeader({ truncationBlocks, blocks }, 8192)
      expect(encoded.equals(bytes.subarray(0, headerBytes))).toBe(true)
      const { space, database, relation, fork, segment } = relationFork(path)!
      if (fork !== 'main') continue
      const ours = changes.of({ space: space!, database, relation, segment })
      if (ours === 'whole') throw new Error(`${path} is whole for us, and not for PostgreSQL`)
      const { limit = DEFAULT_BLOCKS_PER_SEGMENT } = ours
      const known = new Set(ours.blocks)
      expect([...blocks].filter((block) => block < limit && !known.has(block))).toEqual([])
      if (limit === DEFAULT_BLOCKS_PER_SEGMENT && known.size === blocks.length) equal++
    }
    // Where nothing was cut, it is what PostgreSQL takes, block by block.
    expect(equal).toBeGreaterThan(100)

    expect(incremental.incrementalFrom).toEqual({ lsn: full.start, timeline: 1 })
    expect(withIncrementalLines(withoutIncrementalLines(incremental.label), full)).toBe(incremental.label)
  })

  test('a way over a promotion, and the standby itself', async (context) => {
    requireSummaries(context)
    await using scratch = await Scratch.create()
    await using primary = await Cluster.create({
      within: scratch,
      settings: { summarize_wal: true, autovacuum: false },
    })
    await prepare(primary)
    const copy = join(scratch.path, 'copy')
    await primary.run('pg_basebackup', ['--pgdata', copy, '--checkpoint=fast', '--write-recovery-conf'])
    await using standby = await Cluster.adopt(copy, { within: scratch, settings: { summarize_wal: true } })
    await standby.start()
    const [row] = await primary.sql<{ block: number }>(
      `UPDATE touched SET filler = repeat('b', 1500) WHERE n = 1 RETURNING (ctid::text::point)[0]::int AS block`,
    )
    const changed = { blocks: Uint32Array.of(0, row!.block) }
    const [file] = await primary.sql<{ relation: number; database: number }>(
      `SELECT pg_relation_filenode('touched') AS relation, oid AS database FROM pg_database WHERE datname = 'postgres'`,
    )
    const touched = { space: 1663, ...file!, segment: 0 }
    const replayed = await checkpoint(primary)
    await standby.waitUntil(`pg_last_wal_replay_lsn() > '${formatLsn(replayed)}'`)
    await using server = await connect(standby)
    const start = parseBackupLabel(readFileSync(join(copy, 'backup_label.old'), 'utf8')).start
    const onStandby = changesOf(
      await summariesFor(server, {
        timelineHistory: FIRST,
        from: { lsn: start, timeline: 1 },
        to: { lsn: replayed, timeline: 1 },
        waitMs: WAIT_MS,
      }),
    )
    expect(onStandby.of(touched)).toEqual(changed)

    await standby.sql('SELECT pg_promote(false)')
    await standby.waitForPromotion()
    await standby.sql('CREATE TABLE later AS SELECT generate_series(1, 100) AS n')
    const [later] = await standby.sql<{ relation: number }>(
      `SELECT pg_relation_filenode('later') AS relation`,
    )
    const to = { lsn: await checkpoint(standby), timeline: 2 }
    const history = parseHistory(readFileSync(join(copy, 'pg_wal', '00000002.history'), 'utf8'), 2)
    const across = changesOf(
      await summariesFor(server, {
        timelineHistory: history,
        from: { lsn: start, timeline: 1 },
        to,
        waitMs: WAIT_MS,
      }),
    )
    expect(across.of(touched)).toEqual(changed)
    expect(across.of({ ...touched, ...later! })).toEqual({ limit: 0, blocks: Uint32Array.of(0) })
  })

  test('what keeps the changes from us is told, and the session goes on', async (context) => {
    requireSummaries(context)
    await using cluster = await Cluster.create({ settings: { autovacuum: false } })
    const begin = await checkpoint(cluster)
    await using server = await connect(cluster)
    const ask = (given: { from?: Lsn; to?: Lsn; waitMs?: number; timeline?: number; signal?: AbortSignal }) =>
      summariesFor(server, {
        timelineHistory: FIRST,
        from: { lsn: given.from ?? begin, timeline: given.timeline ?? 1 },
        to: { lsn: given.to ?? begin, timeline: 1 },
        waitMs: given.waitMs ?? WAIT_MS,
        ...(given.signal && { signal: given.signal }),
      })
    expect(await ask({})).toEqual({ missing: 'summarize_wal is off' })

    await cluster.sql('ALTER SYSTEM SET summarize_wal = on')
    await cluster.sql('SELECT pg_reload_conf()')
    await cluster.waitUntil(`current_setting('summarize_wal') = 'on'`)
    await cluster.sql('CREATE TABLE t AS SELECT 1 AS n')
    const to = await checkpoint(cluster)
    expect(await ask({ to })).toHaveProperty('changes')
    expect(await ask({ from: 40n, to })).toEqual({
      missing: expect.stringMatching(/^timeline 1 has no WAL summary from 0\/28 to 0\/[1-9A-F]\w+$/),
    })
    expect(await ask({ timeline: 2, to })).toEqual({
      missing: expect.stringContaining("on timeline 2, which is not in this server's history"),
    })
    expect(await ask({ to: lsn('FF/0'), waitMs: 50 })).toEqual({
      missing: expect.stringMatching(
        /^the WAL summariser did not come to FF\/0 within 0.05 s; it is at 0\/\w+$/,
      ),
    })
    const waiting = ask({ to: lsn('FF/0'), signal: AbortSignal.timeout(100) })
    await expect(waiting).rejects.toMatchObject({ name: 'AbortError' })

    await cluster.sql(`CREATE ROLE poor LOGIN;
      REVOKE EXECUTE ON FUNCTION pg_wal_summary_contents(bigint, pg_lsn, pg_lsn) FROM public`)
    await using poor = await Server.connect({
      host: cluster.host,
      port: cluster.port,
      user: 'poor',
      database: 'postgres',
    })
    const options = {
      timelineHistory: FIRST,
      from: { lsn: begin, timeline: 1 },
      to: { lsn: to, timeline: 1 },
      waitMs: WAIT_MS,
    }
    expect(await summariesFor(poor, options)).toEqual({
      missing:
        'the server does not give its WAL summaries: permission denied for function pg_wal_summary_contents' +
        ' (the role "poor" needs EXECUTE on it)',
    })
    await cluster.sql('GRANT EXECUTE ON FUNCTION pg_wal_summary_contents(bigint, pg_lsn, pg_lsn) TO poor')
    expect(await summariesFor(poor, options)).toHaveProperty('changes')
  })

  test('an older one has none', async (context) => {
    if (requireServer(context).major >= 17) context.skip('this server summarises WAL')
    await using cluster = await Cluster.create()
    await using server = await connect(cluster)
    const position = { lsn: await checkpoint(cluster), timeline: 1 }
    expect(
      await summariesFor(server, { timelineHistory: FIRST, from: position, to: position, waitMs: WAIT_MS }),
    ).toEqual({ missing: 'servers before PostgreSQL 17 summarise no WAL' })
  })
})

describe('the way between two backups', () => {
  const HISTORY = parseHistory('1\t0/5000000\tx\n3\t0/9000000\tx\n', 4)
  const way = (from: [string, number], to: [string, number]) =>
    legsBetween({
      timelineHistory: HISTORY,
      from: { lsn: lsn(from[0]), timeline: from[1] },
      to: { lsn: lsn(to[0]), timeline: to[1] },
    })
  const leg = (timeline: number, begin: string, end: string) => ({
    timeline,
    begin: lsn(begin),
    end: lsn(end),
  })

  test('leads through every timeline in between', () => {
    expect(way(['0/2000028', 1], ['0/3000028', 1])).toEqual([leg(1, '0/2000028', '0/3000028')])
    expect(way(['0/2000028', 1], ['0/A000028', 4])).toEqual([
      leg(1, '0/2000028', '0/5000000'),
      leg(3, '0/5000000', '0/9000000'),
      leg(4, '0/9000000', '0/A000028'),
    ])
  })

  test('has no leg where nothing was written', () => {
    expect(way(['0/5000000', 1], ['0/9000000', 4])).toEqual([leg(3, '0/5000000', '0/9000000')])
    expect(way(['0/5000000', 3], ['0/5000000', 3])).toEqual([])
  })

  test.each([
    ['0/2000028', 2, "which is not in this server's history"],
    ['0/5000028', 1, 'has only what comes before 0/5000000'],
    ['0/4FFFFFF', 3, 'which begins only at 0/5000000'],
    ['0/B000028', 4, 'has only what comes before 0/A000028'],
  ])('is none from %s on timeline %i', (start, timeline, reason) => {
    expect(way([start, timeline], ['0/A000028', 4])).toEqual({ missing: expect.stringContaining(reason) })
  })

  test('the first gap is found in whatever order the summaries come', () => {
    const legs = [leg(1, '0/100', '0/500'), leg(2, '0/500', '0/900')]
    const all = [
      leg(2, '0/500', '0/A00'),
      leg(1, '0/300', '0/700'),
      leg(1, '0/50', '0/200'),
      leg(1, '0/200', '0/300'),
    ]
    expect(firstGap(legs, all)).toBeUndefined()
    expect(firstGap([], [])).toBeUndefined()
    expect(firstGap(legs, all.slice(0, 3))).toEqual({ lsn: lsn('0/200'), timeline: 1 })
    expect(firstGap(legs, all.slice(1))).toEqual({ lsn: lsn('0/500'), timeline: 2 })
    expect(firstGap(legs, [...all.slice(1), leg(2, '0/500', '0/8FF')])).toEqual({
      lsn: lsn('0/8FF'),
      timeline: 2,
    })
    // One that only touches the leg is none of it.
    expect(firstGap(legs, [leg(1, '0/50', '0/100')])).toEqual({ lsn: lsn('0/100'), timeline: 1 })
  })
})

interface Told {
  space: number
  database: number
  relation: number
  limit?: number
  blocks: Set<number>
}

/** What PostgreSQL's own program says of the main forks in the summaries of a range. */
async function toldByPostgres(cluster: Cluster, from: Lsn, to: Lsn): Promise<Map<string, Told>> {
  const folder = join(cluster.dataDirectory, 'pg_wal', 'summaries')
  const files = readdirSync(folder).filter((name) => {
    const begin = BigInt(`0x${name.slice(8, 24)}`)
    const end = BigInt(`0x${name.slice(24, 40)}`)
    return begin < to && end > from
  })
  const text = await cluster.run('pg_walsummary', [
    '--individual',
    ...files.map((name) => join(folder, name)),
  ])
  const told = new Map<string, Told>()
  for (const line of text.split('\n')) {
    const match = /^TS (\d+), DB (\d+), REL (\d+), FORK main: (limit|block) (\d+)$/.exec(line)
    if (!match) continue
    const [space, database, relation, value] = [match[1], match[2], match[3], match[5]].map(Number)
    const key = `${space}/${database}/${relation}`
    const entry = told.get(key) ?? {
      space: space!,
      database: database!,
      relation: relation!,
      blocks: new Set<number>(),
    }
    told.set(key, entry)
    if (match[4] === 'block') entry.blocks.add(value!)
    else entry.limit = Math.min(value!, entry.limit ?? value!)
  }
  return told
}

/** The incremental files of a backup, with the paths of what they stand for. */
function incrementalFiles(root: string): { path: string; bytes: Buffer }[] {
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .flatMap((entry) => {
      const path = join(entry.parentPath, entry.name)
      const original = originalName(relative(root, path))
      return original === undefined ? [] : [{ path: original, bytes: readFileSync(path) }]
    })
}
