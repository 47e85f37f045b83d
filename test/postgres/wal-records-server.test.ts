import { cp, mkdir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { describe, expect, test } from 'vitest'
import { formatLsn, type Lsn, lsn } from '../../src/postgres/lsn.ts'
import { numberOf, parseWalFile, segmentStart, type WalFile } from '../../src/postgres/wal-file.ts'
import { describeSegmentMismatch, readSegmentHeader } from '../../src/postgres/wal-page.ts'
import type { Carry, WalRecord } from '../../src/postgres/wal-record.ts'
import { readRecords } from '../../src/postgres/wal-records.ts'
import { Cluster } from '../lab/cluster.ts'
import { requireServer } from '../lab/programs.ts'
import { Scratch } from '../lab/scratch.ts'

describe('beside pg_waldump', () => {
  test.for([1, 16])(
    'the WAL of a real server, in segments of %i MiB',
    { timeout: 120_000 },
    async (mib, context) => {
      if (!requireServer(context).own('pg_waldump')) return context.skip('the server came without pg_waldump')
      await using server = await startServer(mib)
      const points = await writeLoad(server)
      await server.stop()
      await server.keepWal()

      const expected: { records: { kind: string }[]; end: Lsn } = await server.dump()
      const read = await server.read()
      expect(read.records.map(asDumped)).toEqual(expected.records)
      for (const kind of ['commit', 'abort']) {
        expect(expected.records.filter((record) => record.kind === kind).length).toBeGreaterThan(3)
      }
      // pg_waldump names the place behind the header of a page that it could not read a record from.
      const gap = expected.end - read.validUntil
      expect(gap === 0n || (read.validUntil % 8192n === 0n && gap <= 40n)).toBe(true)
      // Of large segments, the last is a recycled one: the end was not found because of zeros.
      if (mib === 16) expect(read.last.subarray(-8192).some((byte) => byte !== 0)).toBe(true)

      const restorePoints = read.records.filter((record) => record.kind === 'restorePoint')
      expect(restorePoints.map(({ name, endLsn }) => ({ name, endLsn }))).toEqual(
        points.map(({ name, endLsn }) => ({ name, endLsn })),
      )
      for (const [index, { before, after }] of points.entries()) {
        expect(restorePoints[index]!.timeMicros).toBeGreaterThanOrEqual(before)
        expect(restorePoints[index]!.timeMicros).toBeLessThanOrEqual(after)
      }
    },
  )
})

type Server = Awaited<ReturnType<typeof startServer>>

/** Every kind of end that a transaction can have, over many segments, the last of them recycled ones. */
async function writeLoad(server: Server) {
  const points: { name: string; endLsn: Lsn; before: bigint; after: bigint }[] = []
  const micros = 'trunc(extract(epoch FROM clock_timestamp()) * 1000000)::bigint'
  const restorePoint = async (name: string) => {
    const [before, endLsn, after] = await server.sql(
      `SELECT ${micros}`,
      `SELECT pg_create_restore_point('${name}')`,
      `SELECT ${micros}`,
    )
    points.push({ name, endLsn: lsn(endLsn!), before: BigInt(before!), after: BigInt(after!) })
  }
  const mixture = async (round: number) => {
    await server.cluster.pgbench(['-n', '-c', '4', '-t', '250', 'postgres'])
    await restorePoint(`before "round" ${round} änderung`)
    await server.sql(
      'BEGIN; CREATE TABLE prepared (a int); SAVEPOINT s; INSERT INTO prepared VALUES (1)',
      "PREPARE TRANSACTION 'kept'",
      "BEGIN; INSERT INTO pgbench_history VALUES (1); PREPARE TRANSACTION 'dropped'",
      "ROLLBACK PREPARED 'dropped'",
      "COMMIT PREPARED 'kept'",
      'BEGIN; DROP TABLE prepared; SAVEPOINT s; CREATE TABLE gone (a int); ROLLBACK TO s; COMMIT',
      'BEGIN; CREATE TABLE gone (a int); DROP TABLE pgbench_history; ROLLBACK',
      // A commit with so many subtransactions that its record goes over several pages.
      `DO $$ BEGIN FOR i IN 1..6000 LOOP
         BEGIN INSERT INTO pgbench_history (tid) VALUES (i); EXCEPTION WHEN others THEN NULL; END;
       END LOOP; END $$`,
      "SELECT 1 FROM pg_logical_emit_message(true, 'large', repeat('x', 30 * 1024 * 1024))",
    )
    await server.cluster.pgbench(['-n', '-c', '4', '-t', '250', 'postgres'])
    await restorePoint('x'.repeat(63))
    await server.sql(
      'SELECT pg_switch_wal()',
      'CREATE TABLE t (a int)',
      'SELECT pg_switch_wal()',
      'DROP TABLE t',
    )
  }
  await server.cluster.pgbench(['-i', '-q', 'postgres'])
  await mixture(1)
  await server.keepWal()
  await server.sql('CHECKPOINT', 'SELECT pg_switch_wal()', 'CREATE TABLE t (a int)', 'DROP TABLE t')
  await mixture(2)
  return points
}

/** What pg_waldump prints of a record: no end, and no time of a restore point. */
function asDumped({ endLsn: _, ...record }: WalRecord): object {
  if (!('name' in record)) return record
  const { timeMicros: __, ...rest } = record
  return rest
}

/** A server that keeps its WAL, recycled segments among it, and a folder in which copies of segments are kept. */
async function startServer(segmentMib: number) {
  await using undo = new AsyncDisposableStack()
  const scratch = undo.use(await Scratch.create())
  const cluster = undo.use(
    await Cluster.create({
      within: scratch,
      fresh: true,
      initdb: [`--wal-segsize=${segmentMib}`],
      // A checkpoint then recycles segments instead of removing them.
      settings: { autovacuum: 'off', max_prepared_transactions: '5', min_wal_size: '200MB' },
    }),
  )
  const kept = join(scratch.path, 'kept')
  await mkdir(kept)
  const segments = async () => (await readdir(kept)).sort()
  const owned = undo.move()
  return {
    cluster,
    /** The last statement's value of each. */
    async sql(...statements: string[]): Promise<string[]> {
      const printed = await cluster.run('psql', [
        '-XAtq',
        '-v',
        'ON_ERROR_STOP=1',
        ...statements.flatMap((text) => ['-c', text]),
      ])
      return printed.trim().split('\n')
    },
    stop: () => cluster.stop('immediate'),
    /** Copies the segments that exist, recycled ones among them. */
    async keepWal() {
      const folder = join(cluster.dataDirectory, 'pg_wal')
      for (const name of await readdir(folder)) {
        if (parseWalFile(name)?.kind === 'segment') await cp(join(folder, name), join(kept, name))
      }
    },
    async dump() {
      const first = parseWalFile((await segments())[0]!) as Extract<WalFile, { kind: 'segment' }>
      const from = formatLsn(segmentStart(numberOf(first, segmentMib * 2 ** 20), segmentMib * 2 ** 20))
      // It ends with an error, at the end of the WAL. The copies belong to whoever runs this test.
      const { stdout, stderr } = await execa(cluster.programs.path('pg_waldump'), ['-p', kept, '-s', from], {
        env: { LC_ALL: 'C', TZ: 'UTC' },
        maxBuffer: 2 ** 28,
        reject: false,
      })
      const end = [...stderr.matchAll(/ at ([0-9A-F]+\/[0-9A-F]+)/g)].at(-1)?.[1]
      return { records: stdout.split('\n').flatMap((line) => recordOf(line) ?? []), end: lsn(end!) }
    },
    async read() {
      const records: WalRecord[] = []
      let carry: Carry | undefined
      for (const name of await segments()) {
        const file = parseWalFile(name) as Extract<WalFile, { kind: 'segment' }>
        const bytes = await readFile(join(kept, name))
        expect(describeSegmentMismatch(file, bytes)).toBeUndefined()
        const { segmentBytes } = readSegmentHeader(bytes)!
        const read = readRecords(bytes, {
          segmentStart: segmentStart(numberOf(file, segmentBytes), segmentBytes),
          carry,
        })
        records.push(...read.records)
        if (!read.carry) return { records, validUntil: read.validUntil, last: bytes }
        carry = read.carry
      }
      throw new Error('the WAL has no end')
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

const LINE =
  /tx:\s+(\d+), lsn: (\S+), prev \S+, desc: (COMMIT|ABORT|COMMIT_PREPARED|ABORT_PREPARED|RESTORE_POINT) (?:(\d+): )?(.*)$/

/** One line of pg_waldump in our own terms. */
function recordOf(line: string): { kind: string; lsn: Lsn } | undefined {
  const match = LINE.exec(line)
  if (!match) return undefined
  const [, tx, place, operation, prepared, rest] = match
  const at = { lsn: lsn(place!) }
  if (operation === 'RESTORE_POINT') return { kind: 'restorePoint', ...at, ...{ name: rest } }
  const [, seconds, fraction] = /^(\S+ [\d:]+)\.(\d{6}) UTC/.exec(rest!)!
  const timeMicros = BigInt(Date.parse(`${seconds!.replace(' ', 'T')}Z`)) * 1000n + BigInt(fraction!)
  const transaction = { xid: Number(prepared ?? tx), timeMicros }
  return { kind: operation!.startsWith('COMMIT') ? 'commit' : 'abort', ...at, ...transaction }
}
