import { describe, expect, test } from 'vitest'
import {
  foldersInside,
  isEmptiedFolder,
  isLeftOut,
  looksLikeDataDirectory,
  unloggedForks,
} from '../../src/postgres/data-directory.ts'

describe('what is copied as an empty folder', () => {
  test.each([
    'pg_dynshmem',
    'pg_notify',
    'pg_replslot',
    'pg_serial',
    'pg_snapshots',
    'pg_stat_tmp',
    'pg_subtrans',
    'pg_wal',
    'pg_xlog',
  ])('%s', (folder) => {
    expect(isEmptiedFolder(folder)).toBe(true)
    expect(isEmptiedFolder(`base/${folder}`)).toBe(false)
  })

  test.each([
    'base',
    'global',
    'pg_xact',
    'pg_clog',
    'pg_multixact',
    'pg_commit_ts',
    'pg_logical',
    'pg_stat',
    'pg_tblspc',
    'pg_twophase',
    'log',
    '',
  ])('not %s', (folder) => {
    expect(isEmptiedFolder(folder)).toBe(false)
  })

  test('pg_wal has the folders in it that the server expects', () => {
    expect(foldersInside('pg_wal', 16)).toEqual(['archive_status'])
    expect(foldersInside('pg_wal', 17)).toEqual(['archive_status', 'summaries'])
    expect(foldersInside('pg_xlog', 9)).toEqual(['archive_status'])
    expect(foldersInside('pg_notify', 17)).toEqual([])
  })
})

describe('what is left out', () => {
  test.each([
    'postmaster.pid',
    'postmaster.opts',
    'current_logfiles',
    'postgresql.auto.conf.tmp',
    'recovery.signal',
    'standby.signal',
    'backup_label',
    'backup_label.old',
    'tablespace_map',
    'tablespace_map.old',
    'backup_manifest',
    'backup_manifest.tmp',
  ])('%s, at the top of the data directory only', (name) => {
    expect(isLeftOut('', name, true)).toBe(true)
    expect(isLeftOut('log', name, false)).toBe(false)
    expect(isLeftOut('', name, false)).toBe(false)
  })

  test.each(['pgsql_tmp', 'pgsql_tmp123.4', 'pgsql_tmp3.fileset', 'pg_internal.init', 'pg_internal.init.77'])(
    '%s, anywhere',
    (name) => {
      for (const folder of ['', 'base', 'base/16384', 'global', 'PG_15_202209061/16384', 'anything']) {
        expect(isLeftOut(folder, name, false)).toBe(true)
      }
    },
  )

  test.each(['t3_16400', 't12_16400_fsm', 't3_16400_vm', 't3_16400.1', 't3_16400_init'])(
    'the temporary relation %s, where relations lie',
    (name) => {
      for (const folder of [
        'base/16384',
        'global',
        'PG_15_202209061/16384',
        'pg_tblspc/16390/PG_15_202209061/5',
      ]) {
        expect(isLeftOut(folder, name, false)).toBe(true)
      }
      for (const folder of ['', 'log', 'base', 'pg_tblspc', 'base/16384/x']) {
        expect(isLeftOut(folder, name, false)).toBe(false)
      }
    },
  )

  test.each([
    'PG_VERSION',
    'postgresql.conf',
    'postgresql.auto.conf',
    'pg_hba.conf',
    'pg_control',
    'pg_filenode.map',
    '16400',
    '16400.1',
    '16400_fsm',
    '16400_init',
    'test_1',
    't1',
    't_1',
    't3_16400x',
    'my_backup_label',
    'recovery.conf',
  ])('not %s', (name) => {
    for (const folder of ['', 'base/16384', 'global'])
      expect(isLeftOut(folder, name, folder === '')).toBe(false)
  })
})

describe('of an unlogged relation', () => {
  const names = [
    '16400',
    '16400.1',
    '16400_fsm',
    '16400_vm',
    '16400_init',
    '16401',
    '16401_fsm',
    '164001',
    'PG_VERSION',
  ]

  test('all forks but the first state are left out, and nothing of other relations', () => {
    for (const folder of ['base/16384', 'PG_17_202406281/16384', 'pg_tblspc/16390/PG_17_202406281/5']) {
      expect([...unloggedForks(folder, names)].toSorted()).toEqual([
        '16400',
        '16400.1',
        '16400_fsm',
        '16400_vm',
      ])
    }
  })

  test('nothing is left out where no relations lie, or where there is no first state', () => {
    expect(unloggedForks('pg_xact', names).size).toBe(0)
    expect(unloggedForks('', names).size).toBe(0)
    expect(
      unloggedForks(
        'base/16384',
        names.filter((name) => !name.endsWith('_init')),
      ).size,
    ).toBe(0)
  })
})

test('a data directory is known by its version or its manifest', () => {
  expect(looksLikeDataDirectory(['base', 'PG_VERSION'])).toBe(true)
  expect(looksLikeDataDirectory(['backup_manifest'])).toBe(true)
  expect(looksLikeDataDirectory(['base', 'global', 'holiday.jpg'])).toBe(false)
  expect(looksLikeDataDirectory([])).toBe(false)
})
