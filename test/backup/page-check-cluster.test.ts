import { closeSync, openSync, readdirSync, readFileSync, readSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { execa } from 'execa'
import { expect, test } from 'vitest'
import { damageAmong, PageInspector, type PageRules } from '../../src/backup/page-check.ts'
import { lsn } from '../../src/postgres/lsn.ts'
import { relationSegment } from '../../src/postgres/relation-file.ts'
import { Cluster } from '../lab/cluster.ts'
import { requireServer } from '../lab/programs.ts'
import { Scratch } from '../lab/scratch.ts'
import { randomFrom } from '../random.ts'

const SEED = 1259
const PAGE = 8192
const COLD: PageRules = { pageBytes: PAGE, blocksPerSegment: 131_072, startLsn: undefined }

interface Relation {
  /** Relative to the data directory, or to the tablespace. */
  path: string
  file: string
}

/** The files of a cluster's relations, as `pg_checksums` names them. */
function relationsOf({ dataDirectory }: Cluster): Relation[] {
  const below = (root: string, folder = '') =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .map((name) => ({ path: join(folder, name), file: join(root, folder, name) }))
      .filter(({ path }) => relationSegment(path) !== undefined)
  const tablespaces = join(dataDirectory, 'pg_tblspc')
  return [
    ...below(dataDirectory, 'base'),
    ...below(dataDirectory, 'global'),
    ...readdirSync(tablespaces).flatMap((oid) => below(join(tablespaces, oid))),
  ]
}

/** Reads a file into the inspector's buffer, as often as it takes. */
function inspect(inspector: PageInspector, { path, file }: Relation) {
  const descriptor = openSync(file, 'r')
  try {
    const pages = inspector.begin(path, { file: descriptor })!
    for (let at = 0, read = -1; read !== 0; at += read) {
      read = readSync(descriptor, inspector.buffer, 0, inspector.buffer.length, at)
      pages.take(inspector.buffer.subarray(0, read), at)
    }
    return pages.end()
  } finally {
    closeSync(descriptor)
  }
}

/** The wrong pages, each as `file block`. */
function wrongPages(inspector: PageInspector, relations: readonly Relation[]): string[] {
  return relations
    .flatMap((relation) =>
      (inspect(inspector, relation).trouble?.ranges ?? []).flatMap(({ block, pages }) =>
        Array.from({ length: pages }, (_, n) => `${relation.file} ${block + n}`),
      ),
    )
    .toSorted()
}

/** What PostgreSQL's own program says of a cluster that is down. */
async function pgChecksums(cluster: Cluster): Promise<{ files: number; wrong: string[] }> {
  const { all } = await execa(
    cluster.programs.path('pg_checksums'),
    ['--check', '--pgdata', cluster.dataDirectory],
    { ...cluster.childOptions, reject: false, all: true },
  )
  const wrong = [...all.matchAll(/failed in file "([^"]+)", block (\d+)/g)]
  return {
    files: Number(/Files scanned: +(\d+)/.exec(all)?.[1]),
    wrong: wrong.map(([, file, block]) => `${file} ${block}`).toSorted(),
  }
}

function put(file: string, block: number, page: Buffer): void {
  const descriptor = openSync(file, 'r+')
  writeSync(descriptor, page, 0, page.length, block * PAGE)
  closeSync(descriptor)
}

test(`every page of a cluster is right, and damaged ones are those of pg_checksums (seed ${SEED})`, async (context) => {
  if (!requireServer(context).own('pg_checksums')) return context.skip('the server came without pg_checksums')
  await using scratch = await Scratch.create()
  await using cluster = await Cluster.create({ within: scratch })
  await cluster.pgbench(['--initialize', '--scale=1', '--quiet'])
  await cluster.sql(`CREATE TABLESPACE elsewhere LOCATION '${await scratch.folder('elsewhere')}'`)
  await cluster.sql('CREATE TABLE t TABLESPACE elsewhere AS SELECT generate_series(1, 10000) AS n')
  await cluster.sql('CREATE UNLOGGED TABLE u AS SELECT generate_series(1, 1000) AS n')
  await cluster.sql('VACUUM')
  await cluster.stop()

  // Pieces that end within pages.
  const inspector = new PageInspector(COLD, 100_003)
  const relations = relationsOf(cluster)
  expect(relations.filter(({ path }) => path.startsWith('PG_')).length).toBeGreaterThan(1)
  expect(wrongPages(inspector, relations)).toEqual([])
  expect(await pgChecksums(cluster)).toEqual({ files: relations.length, wrong: [] })

  const random = randomFrom(SEED)
  const below = (limit: number) => Math.floor(random() * limit)
  const damaged = new Set<string>()
  while (damaged.size < 100) {
    const { file } = relations[below(relations.length)]!
    const bytes = readFileSync(file)
    if (bytes.length === 0) continue
    const at = below(bytes.length)
    const block = Math.floor(at / PAGE)
    bytes[at]! ^= 1 << below(8)
    const page = bytes.subarray(block * PAGE, (block + 1) * PAGE)
    // pg_checksums does not look at new pages, whatever is in them.
    if (damaged.has(`${file} ${block}`) || page.readUInt16LE(14) === 0) continue
    put(file, block, page)
    damaged.add(`${file} ${block}`)
  }
  const expected = [...damaged].toSorted()
  expect(wrongPages(inspector, relations)).toEqual(expected)
  expect((await pgChecksums(cluster)).wrong).toEqual(expected)
})

test('a new page is wrong in the same cases in which the server refuses it', async (context) => {
  requireServer(context)
  await using cluster = await Cluster.create()
  const [row] = await cluster.sql<{ path: string }>(
    `CREATE TABLE t AS SELECT 1 AS n; SELECT pg_relation_filepath('t') AS path`,
  )
  await cluster.stop()
  const table = { path: row!.path, file: join(cluster.dataDirectory, row!.path) }
  const inspector = new PageInspector(COLD, 4 * PAGE)

  put(table.file, 1, Buffer.alloc(PAGE))
  expect(inspect(inspector, table).trouble).toBeUndefined()
  await cluster.start()
  expect(await cluster.sql('SELECT * FROM t')).toEqual([{ n: 1 }])
  await cluster.stop()

  put(table.file, 1, Buffer.from(Buffer.alloc(PAGE).fill(1, 5000, 5001)))
  expect(inspect(inspector, table).trouble?.ranges).toEqual([{ block: 1, pages: 1 }])
  await cluster.start()
  await expect(cluster.sql('SELECT * FROM t')).rejects.toThrow(/invalid page in block 1/)
})

test('during a backup under load there is no damage, and no LSN from after its end', async (context) => {
  const { major } = requireServer(context)
  // So few buffers that the server writes pages all the time.
  await using cluster = await Cluster.create({ settings: { shared_buffers: '1MB', bgwriter_delay: '10ms' } })
  await cluster.pgbench(['--initialize', '--scale=1', '--quiet'])
  await using load = cluster.startPgbench()
  await cluster.waitUntil('(SELECT count(*) > 20 FROM pgbench_history)')
  await using session = await cluster.connect()
  const ask = async (sql: string) => lsn((await session.query<{ lsn: string }>(sql)).rows[0]!.lsn)
  const start = await ask(
    major >= 15
      ? `SELECT pg_backup_start('test', true)::text AS lsn`
      : `SELECT pg_start_backup('test', true, false)::text AS lsn`,
  )
  const inspector = new PageInspector({ ...COLD, startLsn: start }, 50_000)
  const relations = relationsOf(cluster)
  const found: ReturnType<typeof inspect>[] = []
  const newest = () => found.flatMap(({ lastLsn }) => (lastLsn ? lsn(lastLsn) : []))
  while (!newest().some((value) => value > start)) {
    found.push(...relations.map((relation) => inspect(inspector, relation)))
  }
  const stop = await ask(
    major >= 15
      ? 'SELECT lsn::text FROM pg_backup_stop(false)'
      : 'SELECT lsn::text FROM pg_stop_backup(false, false)',
  )
  await load.stop()
  const troubles = found.flatMap(({ trouble }) => trouble ?? [])
  expect(damageAmong(troubles, stop)).toEqual([])
  expect(newest().every((value) => value <= stop)).toBe(true)
})
