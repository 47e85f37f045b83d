import { describe, expect, test } from 'vitest'
import { relationFork, relationSegment } from '../../src/postgres/relation-file.ts'

describe('a file of a relation is known with its segment', () => {
  test.each([
    ['base/5/1259', 0],
    ['base/5/1259_vm', 0],
    ['base/5/1259_vm.1', 1],
    ['base/1/4294967295.131071', 131_071],
    ['base/16384/16400_init', 0],
    ['global/1262', 0],
    ['global/1262_fsm', 0],
    ['PG_15_202209061/5/16384.3', 3],
    ['pg_tblspc/16390/PG_17_202406281/5/16384_fsm.2', 2],
  ])('%s: %i', (path, segment) => {
    expect(relationSegment(path)).toBe(segment)
  })
})

describe('another file is not taken for one', () => {
  test.each([
    'global/pg_control',
    'global/pg_filenode.map',
    'global/pg_internal.init',
    'base/5/pg_internal.init.123',
    'base/5/pg_filenode.map',
    'base/5/PG_VERSION',
    'PG_VERSION',
    'PG_15_202209061/5/PG_VERSION',
    'base/5/t3_16400',
    'base/5/t3_16400_fsm.1',
    'base/5/1259.bak',
    'base/5/1259.0',
    'base/5/1259.01',
    'base/5/1259_old',
    'base/5/1259.1_vm',
    'base/5/01259',
    'base/5/99999999999',
    'base/pgsql_tmp/pgsql_tmp123.4',
    'base/pgsql_tmp/1259',
    'base/1259',
    'pg_xact/0000',
    'pg_multixact/offsets/1234',
    'pg_wal/000000010000000000000001',
    'PG_15_202209061/16384',
    'other/base/5/1259',
    'base/5/1259/1259',
    '1259',
    '',
  ])('%s', (path) => {
    expect(relationSegment(path)).toBeUndefined()
    expect(relationFork(path)).toBeUndefined()
  })
})

describe('what of which relation a file holds', () => {
  test.each([
    ['base/5/1259', 1663, 5, 1259, 'main', 0],
    ['base/5/1259.12', 1663, 5, 1259, 'main', 12],
    ['base/4294967295/4294967295_fsm', 1663, 4_294_967_295, 4_294_967_295, 'fsm', 0],
    ['base/16384/16400_init', 1663, 16_384, 16_400, 'init', 0],
    ['global/1262', 1664, 0, 1262, 'main', 0],
    ['global/1262_vm.1', 1664, 0, 1262, 'vm', 1],
    ['pg_tblspc/16390/PG_17_202406281/5/16384.2', 16_390, 5, 16_384, 'main', 2],
    ['PG_15_202209061/5/16384', undefined, 5, 16_384, 'main', 0],
  ])('%s', (path, space, database, relation, fork, segment) => {
    expect(relationFork(path)).toEqual({ space, database, relation, fork, segment })
  })
})
