import { expect, test } from 'vitest'
import { requireSafeMember } from '../../src/restore/safe-path.ts'

const CLOSED = ['pg_tblspc/16390', 'pg_wal']

test.each([
  'base/1/2619',
  'PG_VERSION',
  'global',
  '..data',
  'a..b/c...',
  'Größe',
  'pg_walx/1',
  'pg_tblspc/163900/PG_17',
  'base/pg_wal/1',
])('%s may be written', (path) => {
  expect(() => requireSafeMember({ path, type: 'file' }, CLOSED)).not.toThrow()
  expect(() => requireSafeMember({ path, type: 'directory' }, CLOSED)).not.toThrow()
})

test.each([
  '',
  '/',
  '/etc/cron.d/x',
  '..',
  '../x',
  'base/../../x',
  'base/..',
  './x',
  'base/./x',
  'base//x',
  'base/',
  'base/1\0/x',
  'pg_wal',
  'pg_wal/000000010000000000000001',
  'pg_tblspc/16390',
  'pg_tblspc/16390/PG_17/1/2',
])('%j may not', (path) => {
  for (const type of ['file', 'directory'] as const) {
    expect(() => requireSafeMember({ path, type }, CLOSED)).toThrow(
      expect.objectContaining({ kind: 'damaged', message: expect.stringContaining(JSON.stringify(path)) }),
    )
  }
})

test('a link may never be written, wherever it is', () => {
  expect(() => requireSafeMember({ path: 'base/1/link', type: 'symlink' }, [])).toThrow('is a link')
})
