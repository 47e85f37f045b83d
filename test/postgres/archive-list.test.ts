import { expect, test } from 'vitest'
import { parseArchiveList } from '../../src/postgres/archive-list.ts'

const LIST = `;
; Archive created at 2026-11-20 17:29:00 UTC
;     dbname: a b
;     TOC Entries: 12
;     Compression: -1
;     Dump Version: 1.14-0
;     Format: CUSTOM
;     Integer: 4 bytes
;     Offset: 8 bytes
;     Dumped from database version: 14.23 (Debian 14.23-1)
;     Dumped by pg_dump version: 15.18 (Debian 15.18-0+deb12u1)
;
;
; Selected TOC Entries:
;
7; 2615 16386 SCHEMA - two words postgres
2; 3079 16387 EXTENSION - pgcrypto 
3300; 0 0 COMMENT - EXTENSION pgcrypto 
215; 1259 16388 TABLE two words a table postgres
216; 1259 16389 TABLE DATA t postgres
3301; 0 16389 TABLE DATA public t my role
3302; 2613 4711 BLOB - 4711 postgres
3303; 0 0 BLOBS - BLOBS 
`

test('the header is read', () => {
  expect(parseArchiveList(LIST).header).toEqual({
    database: 'a b',
    createdAt: '2026-11-20 17:29:00 UTC',
    formatVersion: '1.14-0',
    format: 'CUSTOM',
    compression: '-1',
    entries: 12,
    dumpVersion: '15.18 (Debian 15.18-0+deb12u1)',
    serverVersion: '14.23 (Debian 14.23-1)',
  })
})

test('spaces in names are told apart as far as can be', () => {
  const entries = parseArchiveList(LIST, { owners: ['my role', 'role'] }).entries
  expect(entries.map(({ dumpId, type, schema, name, owner }) => [dumpId, type, schema, name, owner])).toEqual(
    [
      [7, 'SCHEMA', undefined, 'two words', 'postgres'],
      [2, 'EXTENSION', undefined, 'pgcrypto', ''],
      [3300, 'COMMENT', undefined, 'EXTENSION pgcrypto', ''],
      [215, 'TABLE', 'two words', 'a table', 'postgres'],
      [216, 'TABLE', 'DATA', 't', 'postgres'],
      [3301, 'TABLE DATA', 'public', 't', 'my role'],
      [3302, 'BLOB', undefined, '4711', 'postgres'],
      [3303, 'BLOBS', undefined, 'BLOBS', ''],
    ],
  )
})
