import { expect, test } from 'vitest'
import { planGlobals, requireMapped } from '../../src/logical/restore-globals.ts'

const SCRIPT = `\\restrict x
SET default_transaction_read_only = off;
CREATE ROLE anna;
ALTER ROLE anna WITH LOGIN PASSWORD 'SCRAM; x';
CREATE ROLE berta;
ALTER ROLE berta WITH NOLOGIN;
COMMENT ON ROLE berta IS 'b';
ALTER ROLE anna SET work_mem TO '1MB';
GRANT berta TO anna GRANTED BY postgres;
GRANT anna TO berta GRANTED BY postgres;
CREATE TABLESPACE fast OWNER berta LOCATION '/mnt/it''s fast';
GRANT ALL ON TABLESPACE fast TO anna;
CREATE TABLESPACE slow OWNER anna LOCATION '/mnt/slow';
`
const NONE = new Map<string, string>()
const there = { roles: ['postgres', 'anna'], tablespaces: ['pg_default', 'slow'] }
const sqlOf = (...args: Parameters<typeof planGlobals>) =>
  planGlobals(...args).statements.map(({ sql }) => sql)

test('roles and tablespaces that exist are left as they are', () => {
  const plan = planGlobals(SCRIPT, there, false, NONE, NONE)
  expect(plan).toMatchObject({
    madeRoles: ['berta'],
    madeTablespaces: [{ name: 'fast', location: "/mnt/it's fast" }],
    existing: ['anna', 'slow'],
  })
  expect(plan.statements.map(({ sql }) => sql)).toEqual([
    'SET default_transaction_read_only = off;',
    'CREATE ROLE berta;',
    'ALTER ROLE berta WITH NOLOGIN;',
    `COMMENT ON ROLE berta IS 'b';`,
    'GRANT anna TO berta GRANTED BY postgres;',
    `CREATE TABLESPACE fast OWNER berta LOCATION '/mnt/it''s fast';`,
    'GRANT ALL ON TABLESPACE fast TO anna;',
  ])
})

test('with clean they are changed, and not made again', () => {
  const sql = sqlOf(SCRIPT, there, true, NONE, NONE)
  expect(sql).toContain(`ALTER ROLE anna SET work_mem TO '1MB';`)
  expect(sql).toContain('GRANT berta TO anna GRANTED BY postgres;')
  expect(sql).not.toContain('CREATE ROLE anna;')
})

test('a tablespace gets another folder, by its name or its old folder', () => {
  for (const key of ['fast', "/mnt/it's fast"])
    expect(sqlOf(SCRIPT, there, false, new Map([[key, "/new 'one'"]]), NONE)).toContain(
      `CREATE TABLESPACE fast OWNER berta LOCATION '/new ''one''';`,
    )
})

test('a role that another one stands for is not made, and owns nothing', () => {
  const map = new Map([['berta', 'anna']])
  const plan = planGlobals(SCRIPT, there, false, NONE, map)
  expect(plan.madeRoles).toEqual([])
  const sql = plan.statements.map((statement) => statement.sql)
  expect(sql).toContain(`CREATE TABLESPACE fast OWNER "anna" LOCATION '/mnt/it''s fast';`)
  expect(sql.filter((text) => /berta/.test(text))).toEqual([])
})

test('what a role has granted that another one stands for stays granted, in the name of that one', () => {
  const sql = sqlOf(
    SCRIPT,
    { roles: ['admin'], tablespaces: [] },
    false,
    NONE,
    new Map([['postgres', 'admin']]),
  )
  expect(sql).toContain('GRANT berta TO anna GRANTED BY "admin";')
})

test('names that the backup does not have are refused', () => {
  const check = (tablespace: string, role: string) =>
    requireMapped(SCRIPT, new Map([[tablespace, '/new']]), new Map([[role, 'x']]))
  check('fast', 'anna')
  check("/mnt/it's fast", 'berta')
  expect(() => check('fats', 'anna')).toThrow('the backup has no tablespace "fats", which --tablespace names')
  expect(() => check('fast', 'ana')).toThrow('the backup has no role "ana", which --map-role names')
})
