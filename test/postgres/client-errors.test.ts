import { expect, test } from 'vitest'
import { programFailure, tellsOfLostServer } from '../../src/postgres/client-errors.ts'
import { failure } from './dump-lab.ts'

const END = { isGood: false, exitCode: 1, crashed: false, otherwise: 'exit code 1' }

/** What only servers that are not here say, or say in another language. */
test.each([
  [
    'pg_dump: error: aborting because of server version mismatch\npg_dump: detail: server version: 17.5; pg_dump version: 15.18',
    failure('refused', /^pg_dump is older than the server: 15\.18, the server is 17\.5$/, /client programs/),
  ],
  [
    'pg_dump: error: query failed: FEHLER:  storniere Anfrage wegen Zeitüberschreitung\npg_dump: detail: Query was: LOCK TABLE public.a, public.b IN ACCESS SHARE MODE',
    failure(
      'failed',
      /could not lock one of 2 tables \(public\.a, public\.b\) in time: query failed: FEHLER/,
    ),
  ],
  [
    'pg_dump: error: query failed: ERROR:  permission denied for table t\npg_dump: error: query was: LOCK TABLE public.t IN ACCESS SHARE MODE',
    failure('refused', /lacks a privilege: .*table t/, /pg_read_all_data/),
  ],
  [
    'pg_dump: error: Dumping the contents of table "t" failed: PQgetResult() failed.\npg_dump: detail: Error message from server: FATAL:  Verbindung wird abgebrochen\nserver closed the connection unexpectedly',
    failure('connection', /lost the server/),
  ],
  [
    'pg_dump: error: could not obtain lock on relation "public.t"\nThis usually means that someone requested an ACCESS EXCLUSIVE lock',
    failure('failed', /could not lock the table public\.t in time/),
  ],
  [
    'pg_restore: error: unsupported version (1.16) in file header',
    failure('refused', /older than the program that made the archive/),
  ],
  ['pg_dump: error: could not write to file: No space left on device', failure('failed', /No space left/)],
  [
    'pg_dump: error: Dumping the contents of table "t" failed: PQgetResult() failed.\npg_dump: detail: Error message from server: FEHLER:  index "i" contains corrupted page at block 7',
    failure('failed', /^pg_dump failed: .*corrupted page/, /server's log/),
  ],
  ['', failure('failed', /^pg_dump failed: exit code 1$/)],
])('%s', (words, expected) => {
  expect(programFailure('pg_dump', words, END)).toMatchObject(expected)
})

test.each([
  ['could not execute query: server closed the connection unexpectedly\n\tThis probably', true],
  [
    'could not execute query: FATAL:  Verbindung wird abgebrochen\nserver closed the connection unexpectedly',
    true,
  ],
  ['could not execute query: no connection to the server', true],
  [
    'could not execute query: ERROR:  could not connect to server "x"\nDETAIL:  server closed the connection unexpectedly',
    false,
  ],
  ['could not execute query: ERROR:  relation "t" already exists', false],
])('whether the server is lost: %s', (complaint, expected) => {
  expect(tellsOfLostServer(complaint)).toBe(expected)
})

test('what cannot read an archive, and has no other reason, has a damaged one', () => {
  const crashed = { isGood: false, exitCode: null, crashed: true, otherwise: 'it was ended by SIGSEGV' }
  expect(programFailure('pg_restore', '', { ...crashed, reading: true })).toMatchObject(
    failure('damaged', /SIGSEGV/),
  )
  expect(programFailure('pg_restore', '', crashed)).toMatchObject(failure('failed', /SIGSEGV/))
  const killed = { ...crashed, crashed: false, reading: true }
  expect(programFailure('pg_restore', '', killed)).toMatchObject(failure('failed', /SIGSEGV/))
})
