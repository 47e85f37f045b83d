import { expect, test } from 'vitest'
import { splitStatements } from '../../src/postgres/sql-statements.ts'

test('a semicolon in quotes or in a comment ends nothing', () => {
  const sql = [
    `COMMENT ON ROLE a IS 'it''s; --x';`,
    String.raw`COMMENT ON ROLE a IS E'\';\\';`,
    `COMMENT ON ROLE ";""" IS $x$;$$;$x$;`,
    `ALTER ROLE a$b SET x TO '\\';`,
  ]
  const statements = splitStatements(`-- first; comment\n\n${sql.join(`\n-- it's;\n`)}\n--\n`)
  expect(statements.map((statement) => statement.sql)).toEqual(sql)
  expect(statements[2]).toMatchObject({ kind: 'describe-role', names: [';"'] })
})

test('backslashes escape where the session says so', () => {
  const script = String.raw`SET standard_conforming_strings = off;
COMMENT ON ROLE a IS 'x\';y';
SET standard_conforming_strings = on;
COMMENT ON ROLE b IS '\';`
  expect(splitStatements(script).map(({ kind }) => kind)).toEqual([
    'set',
    'describe-role',
    'set',
    'describe-role',
  ])
})

test('a line for psql is a statement, where one may begin', () => {
  const statements = splitStatements('\\restrict abc\nSET x = 1;\n\\connect "a;b"\n\\unrestrict abc\n')
  expect(statements.map(({ kind, sql }) => [kind, sql])).toEqual([
    ['meta', '\\restrict abc'],
    ['set', 'SET x = 1;'],
    ['meta', '\\connect "a;b"'],
    ['meta', '\\unrestrict abc'],
  ])
})

test.each([
  ['CREATE ROLE granted;', 'create-role', ['granted']],
  ['CREATE ROLE if;', 'create-role', ['if']],
  ['DROP ROLE IF EXISTS "A b";', 'drop-role', ['A b']],
  ['ALTER ROLE a WITH LOGIN;', 'alter-role', ['a']],
  ['ALTER ROLE a IN DATABASE d SET x TO 1;', 'configure-role', ['a']],
  ["SECURITY LABEL FOR p ON ROLE a IS 'x';", 'describe-role', ['a']],
  ['GRANT a TO granted GRANTED BY by;', 'grant-role', ['a', 'granted', 'by']],
  ['GRANT "to" TO b WITH ADMIN OPTION, INHERIT TRUE, SET TRUE GRANTED BY c;', 'grant-role', ['to', 'b', 'c']],
  ['REVOKE ADMIN OPTION FOR a FROM b;', 'grant-role', ['a', 'b']],
  ['REVOKE ALL ON TABLESPACE t FROM PUBLIC;', 'grant-tablespace', ['t', 'public']],
  ['GRANT ALL ON TABLESPACE t TO a WITH GRANT OPTION;', 'grant-tablespace', ['t', 'a']],
  ['GRANT SET ON PARAMETER my.setting TO a;', 'grant-parameter', ['my.setting', 'a']],
  ['ALTER TABLESPACE t SET (seq_page_cost=1);', 'alter-tablespace', ['t']],
  ['DROP TABLESPACE t;', 'drop-tablespace', ['t']],
  ["SELECT pg_catalog.set_config('search_path', '', false);", 'set', []],
  ['CREATE TABLE role (id int);', 'other', []],
])('%s', (sql, kind, names) => {
  expect(splitStatements(sql)).toEqual([{ sql, kind, names }])
})

test.each(['CREATE ROLE a', `COMMENT ON ROLE a IS 'x`, 'DROP ROLE "a;'])('%s is half a statement', (sql) => {
  expect(() => splitStatements(`SET x = 1;\n${sql}`)).toThrow(`ends in the middle of a statement: `)
})
