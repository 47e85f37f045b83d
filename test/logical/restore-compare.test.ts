import { appendFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { beforeEach, describe, expect, test } from 'vitest'
import { backupPrefix } from '../../src/catalog/layout.ts'
import type { LogicalRecord } from '../../src/catalog/logical-record.ts'
import { putObject } from '../../src/catalog/put-object.ts'
import type { TableFingerprint } from '../../src/logical/fingerprint.ts'
import type { Difference } from '../../src/logical/fingerprint-compare.ts'
import { fingerprintLines, RecordedFingerprints } from '../../src/logical/fingerprint-object.ts'
import { type Comparison, comparisonOf } from '../../src/logical/restore-compare.ts'
import { answerOf, failureOf } from '../backup/commands.ts'
import { localStorage } from '../copy/sample.ts'
import { Lab } from '../lab/lab.ts'
import { requireServer } from '../lab/programs.ts'
import { plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'

beforeEach((context) => void requireServer(context))

const ODD = `o'dd "d b"`
const THINGS = `
  CREATE SCHEMA "s p";
  CREATE TABLE "s p"."t
able" (id serial PRIMARY KEY, "wörd" text, ratio float8);
  INSERT INTO "s p"."t
able" ("wörd", ratio) VALUES ('Grüße', 0.1), (NULL, 'NaN'), ('', 1e300);
  CREATE TABLE parted (k int) PARTITION BY RANGE (k);
  CREATE TABLE part_one PARTITION OF parted FOR VALUES FROM (0) TO (10);
  CREATE TABLE "part täo" PARTITION OF parted DEFAULT;
  INSERT INTO parted VALUES (1), (1), (20);
  CREATE TABLE bare ();
  CREATE TABLE skipped AS SELECT 1 AS i;
  CREATE TABLE policed AS SELECT 1 AS i;
  ALTER TABLE policed ENABLE ROW LEVEL SECURITY;
  ALTER TABLE policed FORCE ROW LEVEL SECURITY;
  CREATE MATERIALIZED VIEW stale AS SELECT * FROM bare;
  INSERT INTO bare DEFAULT VALUES;
  CREATE MATERIALIZED VIEW seen AS SELECT * FROM parted;
  CREATE MATERIALIZED VIEW unseen AS SELECT * FROM parted WITH NO DATA;
  SELECT lo_from_bytea(4711, 'large'), lo_from_bytea(4712, '')`
const COUNTED = { table: 5, sequence: 1, 'materialized view': 2, 'large objects': 2 }

interface Answer {
  errors: number
  differences: number
  databases: {
    into: string
    compare: Comparison
  }[]
}

/** Which tables are told of, and as what. */
const told = (list: readonly Difference[]) =>
  list.map(({ kind, recorded, found }) => `${kind} ${(recorded ?? found)!.name ?? ''}`.trim())

/** A backup of two databases, of which one has another encoding. */
async function takeThings(lab: Lab): Promise<string> {
  await lab.cluster.sql(`CREATE DATABASE "o'dd ""d b"""`)
  await lab.cluster.sql(THINGS, { database: ODD })
  await lab.cluster.sql(`CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'`)
  await lab.cluster.sql(`CREATE TABLE "Größe" (i serial, "ü" text); INSERT INTO "Größe" ("ü") VALUES ('ä')`, {
    database: 'latin',
  })
  const one = ['--database', ODD, '--database', 'latin', '--exclude-table-data', 'skipped']
  return (await answerOf<LogicalRecord>(lab, ['backup', '--method', 'logical', '--fingerprint', ...one])).id
}

const databasesOf = async ({ cluster }: Lab) =>
  (await cluster.sql<{ name: string }>('SELECT datname AS name FROM pg_database ORDER BY oid')).map(
    ({ name }) => name,
  )

describe('what was restored is compared with what was recorded', () => {
  test('databases that come back are the same, and what is newer than it was is told', async () => {
    await using lab = await Lab.create({ archive: false, encrypted: true })
    const id = await takeThings(lab)
    const both = ['--database', ODD, '--database', 'latin', '--create', '--clean', '--force', '--compare']
    const { stdout } = await lab.pgrecall(['restore', id, ...both, '--dry-run'])
    expect(stdout).toContain('Compare   all rows that are restored')
    const answer = await answerOf<Answer>(lab, ['restore', id, ...both])
    expect(answer).toMatchObject({ errors: 0, differences: 0, plan: { compare: true } })
    expect(answer.databases.map(({ into, compare }) => [into, compare.compared])).toEqual([
      ['latin', { table: 1, sequence: 1 }],
      [ODD, COUNTED],
    ])
    const [latin, odd] = answer.databases.map(({ compare }) => compare.remarks)
    expect(latin).toEqual([])
    expect(told(odd!)).toEqual(['rows stale'])

    const words = await lab.pgrecall(['restore', id, '--database', 'latin', '--into', 'again', '--compare'])
    expect(words.exitCode).toBe(0)
    expect(words.stdout).toContain('Compared 1 table, 1 sequence: all as recorded.')
  })

  test('of a part only that is compared', async () => {
    await using lab = await Lab.create({ archive: false })
    const id = await takeThings(lab)
    const compared = async (...args: string[]) => {
      const answer = await answerOf<Answer>(lab, ['restore', id, '--database', ODD, '--compare', ...args])
      expect(answer.differences).toBe(0)
      return answer.databases[0]!.compare
    }
    const one = { compared: { table: 2 }, differences: [], remarks: [] }
    expect(await compared('--into', 'part', '--table', 'part*')).toEqual(one)
    // What is there beside it is none of it, and of large objects nobody knows whose they are.
    await lab.cluster.sql(`SELECT lo_from_bytea(1, 'mine')`, { database: 'part' })
    const other = ['--into', 'part', '--force', '--exclude-schema', 'public']
    const { compared: kinds, remarks } = await compared(...other)
    expect(kinds).toEqual({ table: 1, sequence: 1 })
    expect(remarks).toMatchObject([{ kind: 'unknown', found: { kind: 'large objects' } }])
  })

  test('rows that do not come as they were are found', async () => {
    await using lab = await Lab.create({ archive: false })
    const id = await takeThings(lab)
    const into = ['restore', id, '--database', ODD, '--into', 'copy']
    await answerOf(lab, [...into, '--schema-only'])
    await lab.cluster.sql(
      `CREATE FUNCTION drops() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
       CREATE FUNCTION changes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.k := 2; RETURN new; END $$;
       CREATE TRIGGER drops BEFORE INSERT ON bare FOR EACH ROW EXECUTE FUNCTION drops();
       CREATE TRIGGER changes BEFORE INSERT ON part_one FOR EACH ROW EXECUTE FUNCTION changes();
       INSERT INTO policed VALUES (7)`,
      { database: 'copy' },
    )
    const rows = [...into, '--data-only', '--force', '--compare']
    const planned = await lab.pgrecall([...rows, '--dry-run'])
    expect(planned.stdout).toContain('a table that has rows already will differ')
    const { exitCode, stdout } = await lab.pgrecall(rows)
    expect(exitCode).toBe(12)
    expect(stdout).toContain(
      [
        'Compared 5 tables, 2 materialized views, 1 sequence: 3 differences:',
        '  database "copy": table "public"."bare": 0 instead of 1 rows',
        '  database "copy": table "public"."part_one": as many, but not the same',
        '  database "copy": table "public"."policed": 2 instead of 1 rows',
        'To be looked at, and no failure:',
      ].join('\n'),
    )
    expect(stdout).toContain('large objects: not compared, now there may be some that were there before')
  })

  test('what the role may not see is told, and no failure', async () => {
    await using lab = await Lab.create({ archive: false })
    const id = await takeThings(lab)
    await lab.cluster.sql('CREATE ROLE limited LOGIN CREATEDB')
    const own = ['--database', ODD, '--into', 'own', '--no-owner', '--no-privileges']
    const answer = await answerOf<Answer>(lab, [
      ...['restore', id, ...own, '--compare'],
      ...['--host', lab.cluster.host, '--port', String(lab.cluster.port), '--username', 'limited'],
    ])
    const { compared, remarks } = answer.databases[0]!.compare
    expect(compared).toEqual({ table: 4, sequence: 1, 'materialized view': 2 })
    expect(told(remarks)).toEqual(['unknown policed', 'rows stale', 'unknown'])
  })

  test('a comparison that ends early says that the database is restored', async () => {
    await using lab = await Lab.create({ archive: false })
    const id = await takeThings(lab)
    const into = ['restore', id, '--database', ODD, '--into', 'copy']
    await answerOf(lab, [...into, '--schema-only'])
    await using holder = await lab.cluster.connect('copy')
    // What is counted, and not filled by --data-only.
    await holder.query('BEGIN; REFRESH MATERIALIZED VIEW seen')
    const rows = ['--data-only', '--force', '--no-analyze', '--compare']
    const { process } = await lab.startPgrecall([...into, ...rows])
    await lab.cluster.waitUntil('EXISTS (SELECT FROM pg_locks WHERE NOT granted)')
    process.kill('SIGTERM')
    const { exitCode, stderr } = await process
    expect(String(stderr)).toContain('database "copy" is restored, and could not be compared')
    expect(exitCode).toBe(130)
  })
})

describe('nothing is changed where nothing can be compared', () => {
  test('for want of fingerprints or of rows, or since they are damaged', async () => {
    await using lab = await Lab.create({ archive: false })
    const take = async (...args: string[]) =>
      (await answerOf<LogicalRecord>(lab, ['backup', '--method', 'logical', ...args])).id
    await lab.cluster.sql('CREATE DATABASE shop')
    const before = await databasesOf(lab)
    const refused = async (id: string, ...args: string[]) => {
      const failure = await failureOf(lab, ['restore', id, '--compare', ...args])
      expect(await databasesOf(lab)).toEqual(before)
      return failure
    }
    const shop = ['--database', 'shop', '--into', 'copy']
    expect(await refused(await take(), ...shop)).toMatchObject({
      kind: 'refused',
      message: expect.stringContaining('has no fingerprints'),
      hint: expect.stringContaining('--fingerprint'),
    })
    expect(await refused(await take('--whole'))).toMatchObject({ kind: 'refused' })
    expect(await refused('latest')).toMatchObject({
      kind: 'usage',
      message: '--compare is for logical backups only',
    })
    const id = await take('--fingerprint')
    expect(await refused(id, ...shop, '--schema-only')).toMatchObject({ kind: 'usage' })
    await appendFile(join(lab.repository, 'main/backups', id, 'fingerprints.jsonl.zst'), 'x')
    expect(await refused(id, ...shop)).toMatchObject({ kind: 'damaged' })
  })
})

test('each database has its own fingerprints, also where there are many', async () => {
  await using scratch = await Scratch.create('fingerprints')
  const repository = plainRepository('here', await localStorage(scratch, 'here'))
  const ofDatabase = (name: string, count: number) => ({
    database: { name },
    fingerprints: Array.from({ length: count }, (_, at): TableFingerprint => {
      return { kind: 'table', schema: 'public', name: `t${at}`, rows: at, content: String(at) }
    }),
  })
  const [one, other, many] = [ofDatabase('one', 1), ofDatabase('other', 2), ofDatabase('many', 25_000)]
  const lines = Array.from(fingerprintLines([one, many, other]))
  const id = '20261120T120000Z-logical'
  const stored = await putObject(
    repository.storage,
    backupPrefix('main', id),
    'fingerprints.jsonl',
    [Buffer.concat(lines)],
    { sealer: undefined },
  )
  const record = { cluster: 'main', id, objects: [{ ...stored, kind: 'fingerprint' }] }
  const recorded = await RecordedFingerprints.read(
    { repository, record: record as unknown as LogicalRecord },
    new Set(['one', 'many', 'empty']),
    new AbortController().signal,
  )
  expect(recorded.of('one')).toEqual(one.fingerprints)
  expect(isDeepStrictEqual(recorded.of('many'), many.fingerprints)).toBe(true)
  expect([recorded.of('other'), recorded.of('empty')]).toEqual([[], []])
})

test('only rows that are missing or others are failures', () => {
  const table = (name: string, rows: number, rest: Partial<TableFingerprint> = {}): TableFingerprint => ({
    ...{ kind: 'table', schema: 'public', name, rows, content: String(rows) },
    ...rest,
  })
  const sequence = (content: string): TableFingerprint => ({
    ...{ kind: 'sequence', schema: 'public', name: 'q', content },
  })
  const { rows: _rows, content: _content, ...uncounted } = table('secret', 0)
  const recorded = [
    table('gone', 1),
    table('short', 2),
    table('seen', 2, { kind: 'materialized view' }),
    sequence('7, given out'),
    { ...uncounted, fault: 'row security' },
  ]
  const found = [
    table('short', 1),
    table('seen', 1, { kind: 'materialized view' }),
    sequence('8, given out'),
    table('secret', 1),
    table('left out', 1),
  ]
  const { compared, differences, remarks } = comparisonOf(recorded, found, [table('more', 0)])
  expect(compared).toEqual({ table: 2, 'materialized view': 1, sequence: 1 })
  expect(told(differences)).toEqual(['missing gone', 'rows short'])
  expect(told(remarks)).toEqual([
    'rows seen',
    'sequence q',
    'unknown secret',
    'unknown left out',
    'unexpected more',
  ])
})
