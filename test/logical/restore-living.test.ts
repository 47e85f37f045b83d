import { beforeEach, describe, expect, test } from 'vitest'
import type { LogicalRecord } from '../../src/catalog/logical-record.ts'
import { answerOf, failureOf } from '../backup/commands.ts'
import { Cluster } from '../lab/cluster.ts'
import { Lab } from '../lab/lab.ts'
import { requireServer } from '../lab/programs.ts'
import { sortedDump, targetOf } from './restore-lab.ts'

beforeEach((context) => void requireServer(context))

/** A table without a key, so that nothing keeps the same rows from coming again. */
const THINGS = `
  CREATE TABLE log (what text);
  INSERT INTO log VALUES ('one');
  CREATE TABLE "order" (id int PRIMARY KEY, day date);
  INSERT INTO "order" VALUES (1, '2026-11-01');
  CREATE TABLE late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED);
  INSERT INTO late VALUES (1);
  CREATE SEQUENCE numbers;
  SELECT setval('numbers', 10);
  SELECT lo_from_bytea(4711, 'before')`
const SINCE = `
  INSERT INTO log VALUES ('two');
  SELECT setval('numbers', 99);
  SELECT lo_put(4711, 0, 'behind');
  GRANT SELECT ON log TO PUBLIC;
  COMMENT ON TABLE log IS 'mine'`

/** A backup of things in a database, which have changed since. */
async function takeThings(lab: Lab): Promise<string> {
  await lab.cluster.sql('CREATE DATABASE shop')
  await lab.cluster.sql(THINGS, { database: 'shop' })
  const { id } = await answerOf<LogicalRecord>(lab, ['backup', '--method', 'logical'])
  await lab.cluster.sql(SINCE, { database: 'shop' })
  return id
}

interface Answer {
  errors: number
  plan: { databases: { properties: boolean; allOrNothing: boolean }[] }
}

describe('a restore into a living database', () => {
  test('changes nothing at all where something exists', async () => {
    await using lab = await Lab.create({ archive: false })
    const id = await takeThings(lab)
    const before = await sortedDump(lab.cluster)
    // What fails when the transaction ends comes behind the values of sequences, in the archive.
    const late = ['--data-only', '--table', 'late', '--table', 'numbers']
    for (const options of [[], ['--data-only'], ['--table', 'log'], ['--table', 'numbers'], late]) {
      const failure = await failureOf(lab, ['restore', id, '--database', 'shop', '--force', ...options])
      expect(failure).toMatchObject({
        kind: 'failed',
        exitCode: 11,
        message: expect.stringContaining('database "shop" is as it was: '),
      })
      expect(failure.hint ?? '').not.toMatch(/clean|DROP/)
      expect(await sortedDump(lab.cluster)).toEqual(before)
    }
    const both = ['restore', id, '--database', 'shop', '--force', '--jobs', '2', '--staging', '/tmp']
    expect(await failureOf(lab, both)).toMatchObject({ kind: 'refused' })
  })

  test('gives it other roles in one transaction as well', async () => {
    await using lab = await Lab.create({ archive: false })
    const id = await takeThings(lab)
    await lab.cluster.sql('CREATE ROLE berta')
    const before = await sortedDump(lab.cluster)
    const mapped = ['restore', id, '--database', 'shop', '--force', '--map-role', 'postgres=berta']
    expect((await failureOf(lab, mapped)).message).toContain('database "shop" is as it was: ')
    expect(await sortedDump(lab.cluster)).toEqual(before)
    await answerOf(lab, [...mapped, '--clean'])
    const rows = await lab.cluster.sql(
      `SELECT what, tableowner AS owner, (SELECT lomowner::regrole::text FROM pg_largeobject_metadata) AS large
         FROM log, pg_tables WHERE tablename = 'log'`,
      { database: 'shop' },
    )
    expect(rows).toEqual([{ what: 'one', owner: 'berta', large: 'berta' }])
  })

  test('with --clean brings back what was, or changes nothing where something hinders it', async () => {
    await using lab = await Lab.create({ archive: false })
    const id = await takeThings(lab)
    await lab.cluster.sql('CREATE VIEW mine AS SELECT id, day FROM "order"', { database: 'shop' })
    const before = await sortedDump(lab.cluster)
    const clean = ['restore', id, '--database', 'shop', '--clean', '--force']
    expect((await failureOf(lab, clean)).message).toContain('database "shop" is as it was: ')
    expect(await sortedDump(lab.cluster)).toEqual(before)
    await lab.cluster.sql('DROP VIEW mine', { database: 'shop' })
    expect((await answerOf<Answer>(lab, clean)).errors).toBe(0)
    const facts = await lab.cluster.sql(
      `SELECT what, last_value::int AS number, convert_from(lo_get(4711), 'UTF8') AS large FROM log, numbers`,
      { database: 'shop' },
    )
    expect(facts).toEqual([{ what: 'one', number: 10, large: 'before' }])
  })

  test('does not go into one that cannot be dropped', async () => {
    await using lab = await Lab.create({ archive: false })
    const id = await takeThings(lab)
    const before = await sortedDump(lab.cluster)
    const anew = ['restore', id, '--database', 'shop', '--create', '--clean', '--force']
    {
      await using _somebody = await lab.cluster.connect('shop')
      const failure = await failureOf(lab, anew)
      expect(failure).toMatchObject({
        kind: 'refused',
        message: expect.stringMatching(/^database "shop" is as it was: .*accessed by other users/),
        hint: 'end the sessions in it (pg_terminate_backend), and restore again',
      })
      expect(await sortedDump(lab.cluster)).toEqual(before)
    }
    expect((await answerOf<Answer>(lab, anew)).errors).toBe(0)
    expect(await lab.cluster.sql('SELECT * FROM log', { database: 'shop' })).toEqual([{ what: 'one' }])
  })

  test('says which databases were restored before one that could not be, and which ones were not begun', async () => {
    await using lab = await Lab.create({ archive: false })
    for (const name of ['alpha', 'beta']) await lab.cluster.sql(`CREATE DATABASE ${name}`)
    const id = await takeThings(lab)
    await using _somebody = await lab.cluster.connect('beta')
    const names = ['alpha', 'beta', 'shop'].flatMap((name) => ['--database', name])
    const { exitCode, stderr } = await lab.pgrecall([
      ...['restore', id, ...names, '--create', '--clean', '--force'],
    ])
    expect(exitCode).toBe(11)
    expect(stderr).toContain('databases that are restored: "alpha"; not begun: "shop"')
    expect(stderr).toContain('database "beta" is as it was: ')
  })

  test('leaves the settings of "postgres" alone where it is in use, and tells', async () => {
    await using lab = await Lab.create({ archive: false })
    await lab.cluster.sql(`ALTER DATABASE postgres SET work_mem = '5MB'`)
    const { id } = await answerOf<LogicalRecord>(lab, ['backup', '--method', 'logical'])
    await using target = await Cluster.create({ within: lab.scratch, name: 'target' })
    await target.sql(`ALTER DATABASE postgres SET work_mem = '9MB'; CREATE FUNCTION mine() RETURNS int
                        LANGUAGE sql AS 'SELECT 1'`)
    const one = ['restore', id, '--database', 'postgres', ...targetOf(target)]
    expect(await failureOf(lab, one)).toMatchObject({ kind: 'refused' })
    const setting = () => target.sql('SELECT setconfig AS is FROM pg_db_role_setting')
    await answerOf(lab, [...one, '--force'])
    expect(await setting()).toEqual([{ is: ['work_mem=9MB'] }])
    const told = await lab.pgrecall([...one, '--force', '--clean', '--dry-run'])
    expect(told.stdout).toContain("its settings, its privileges and its comment become the backup's")
    await answerOf(lab, [...one, '--force', '--clean'])
    expect(await setting()).toEqual([{ is: ['work_mem=5MB'] }])
  })

  test('ends at a signal, also when it gathers statistics', async () => {
    await using lab = await Lab.create({ archive: false })
    const id = await takeThings(lab)
    await using holder = await lab.cluster.connect('shop')
    await holder.query('BEGIN; LOCK TABLE log IN SHARE UPDATE EXCLUSIVE MODE')
    const args = ['restore', id, '--database', 'shop', '--force', '--data-only', '--table', 'log', '--json']
    const { process } = await lab.startPgrecall(args)
    await lab.cluster.waitUntil('EXISTS (SELECT FROM pg_locks WHERE NOT granted)')
    process.kill('SIGTERM')
    const { exitCode, stderr } = await process
    expect(exitCode).toBe(130)
    expect(String(stderr)).toContain('database "shop" has what is in the dump, but lacks')
  })
})

test('rows of a table that could not be made are never taken for statements', async () => {
  await using lab = await Lab.create({ archive: false })
  await lab.cluster.sql('CREATE DATABASE shop')
  // A type that only a superuser may make.
  await lab.cluster.sql(
    `CREATE TYPE own;
     CREATE FUNCTION own_in(cstring) RETURNS own LANGUAGE internal IMMUTABLE STRICT AS 'textin';
     CREATE FUNCTION own_out(own) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
     CREATE TYPE own (INPUT = own_in, OUTPUT = own_out, LIKE = text);
     CREATE TABLE t (a own);
     INSERT INTO t VALUES (';'), ('CREATE TABLE taken ();');
     CREATE TABLE other AS SELECT 1 AS n`,
    { database: 'shop' },
  )
  const { id } = await answerOf<LogicalRecord>(lab, ['backup', '--method', 'logical'])
  await using target = await Cluster.create({ within: lab.scratch, name: 'target' })
  await target.sql('CREATE ROLE limited LOGIN CREATEDB')
  const { host, port } = target
  const { exitCode, stdout } = await lab.pgrecall([
    ...['restore', id, '--database', 'shop', '--map-role', 'postgres=limited', '--json'],
    ...['--host', host, '--port', String(port), '--username', 'limited'],
  ])
  expect(exitCode).toBe(11)
  expect((JSON.parse(stdout) as Answer).errors).toBeGreaterThan(2)
  const facts = await target.sql(
    `SELECT to_regclass('taken') IS NULL AS safe, n, tableowner AS owner FROM other, pg_tables WHERE tablename = 'other'`,
    { database: 'shop' },
  )
  expect(facts).toEqual([{ safe: true, n: 1, owner: 'limited' }])
})
