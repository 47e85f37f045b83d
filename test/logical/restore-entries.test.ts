import { describe, expect, test } from 'vitest'
import {
  chooseEntries,
  databaseEntries,
  parseLinkedEntries,
  partsOf,
} from '../../src/logical/restore-entries.ts'

/** As `pg_restore --list --verbose --create` writes it. */
const LIST = `;
; Archive created at 2026-11-22 02:00:00 UTC
;     dbname: shop
;     TOC Entries: 30
;     Format: CUSTOM
;
;
; Selected TOC Entries:
;
3400; 1262 16384 DATABASE - shop anna
3401; 0 0 ACL - DATABASE shop anna
;	depends on: 3400
3402; 0 0 DATABASE PROPERTIES - shop anna
;	depends on: 3400
6; 2615 16390 SCHEMA - sales anna
210; 1259 16391 TABLE sales customer anna
;	depends on: 6
212; 1259 16395 TABLE sales order anna
;	depends on: 6
211; 1259 16394 SEQUENCE sales order_id_seq anna
;	depends on: 212 6
3410; 0 0 SEQUENCE OWNED BY sales order_id_seq anna
;	depends on: 211
3200; 2604 16398 DEFAULT sales order id anna
;	depends on: 212 211
3300; 0 16391 TABLE DATA sales customer anna
;	depends on: 210
3301; 0 16395 TABLE DATA sales order anna
;	depends on: 212
3411; 0 0 SEQUENCE SET sales order_id_seq anna
;	depends on: 211
3202; 2606 16401 CONSTRAINT sales customer customer_pkey anna
;	depends on: 210
3203; 1259 16402 INDEX sales by_day anna
;	depends on: 212
3204; 2606 16403 FK CONSTRAINT sales order order_customer_fkey anna
;	depends on: 3202 212 210
3412; 0 0 COMMENT sales INDEX by_day anna
;	depends on: 3203
`
const PARTITIONED = `
7; 2615 1 SCHEMA - other anna
10; 1259 1 TABLE public part anna
11; 1259 2 TABLE other middle anna
;	depends on: 7
12; 1259 3 TABLE public leaf anna
13; 1259 4 TABLE public last anna
20; 0 0 TABLE ATTACH other middle anna
;	depends on: 11 10
21; 0 0 TABLE ATTACH public leaf anna
;	depends on: 11 12
22; 0 0 TABLE ATTACH public last anna
;	depends on: 10 13
30; 0 4 TABLE DATA public last anna
;	depends on: 13
31; 0 3 TABLE DATA public leaf anna
;	depends on: 12
`
const PARTITIONED_BEFORE_14 = `
10; 1259 1 TABLE public part anna
11; 1259 2 TABLE public middle anna
;	depends on: 10
12; 1259 3 TABLE public leaf anna
;	depends on: 11
13; 1259 4 TABLE public other anna
30; 0 3 TABLE DATA public leaf anna
;	depends on: 12
31; 0 4 TABLE DATA public other anna
;	depends on: 13
`
/** Of `--data-only`: the tables are not there. */
const ROWS = `
40; 0 1 TABLE DATA public hen anna
;	depends on: 10
41; 0 2 TABLE DATA public egg anna
;	depends on: 11 40
`
const MIXED = `
1; 1259 1 TABLE public t anna
2; 0 0 ACL public TABLE t anna
3; 0 1 TABLE DATA public t anna
4; 0 0 SEQUENCE SET public s anna
5; 2613 4711 BLOB - 4711 anna
6; 0 0 BLOBS - BLOBS 
7; 0 0 ACL - LARGE OBJECT 4711 anna
8; 1259 2 INDEX public i anna
`
const ALL = { tables: [], schemas: [], excludeSchemas: [], only: undefined }
const entries = parseLinkedEntries(LIST)

describe('what of an archive is restored', () => {
  test('a table comes with all that belongs to it, and without what needs another one', () => {
    const { ids, leftOut } = chooseEntries(entries, { ...ALL, tables: ['order'] }, ['public'], 15)
    expect(ids).toEqual([6, 212, 211, 3410, 3200, 3301, 3411, 3203, 3412])
    expect(leftOut).toEqual(['FK CONSTRAINT sales.order order_customer_fkey'])
  })

  test('a foreign key comes with both of its tables', () => {
    const { ids, leftOut } = chooseEntries(entries, { ...ALL, tables: ['sales.*'] }, ['public', 'sales'], 15)
    expect(ids).toContain(3204)
    expect(ids).not.toContain(6)
    expect(leftOut).toEqual([])
  })

  test('a table alone does not bring what refers to it', () => {
    const { ids } = chooseEntries(entries, { ...ALL, tables: ['sales.customer'] }, ['sales'], 15)
    expect(ids).toEqual([210, 3300, 3202])
  })

  test('a schema comes whole, also its making', () => {
    const { ids } = chooseEntries(entries, { ...ALL, schemas: ['sales'] }, ['public'], 15)
    expect(ids).toEqual(entries.map(({ dumpId }) => dumpId).filter((id) => id < 3400 || id > 3402))
    expect(chooseEntries(entries, { ...ALL, excludeSchemas: ['sales'] }, [], 15).ids).toEqual([
      3400, 3401, 3402,
    ])
  })

  test('what nothing in the archive is called is said', () => {
    expect(() => chooseEntries(entries, { ...ALL, tables: ['orders'] }, [], 15)).toThrow('no table "orders"')
    expect(() => chooseEntries(entries, { ...ALL, schemas: ['sale'] }, [], 15)).toThrow('no schema "sale"')
    expect(() => chooseEntries(entries, { ...ALL, excludeSchemas: ['sale'] }, [], 15)).toThrow(
      'no schema "sale"',
    )
  })

  test('a partitioned table comes with its partitions, and theirs; a partition alone', () => {
    const partitioned = parseLinkedEntries(PARTITIONED)
    const chosen = (table: string) => chooseEntries(partitioned, { ...ALL, tables: [table] }, ['public'], 15)
    expect(chosen('part').ids).toEqual([7, 10, 11, 12, 13, 20, 21, 22, 30, 31])
    expect(chosen('leaf').ids).toEqual([12, 31])
  })

  test('up to 13, whatever depends on a table may be a partition, and comes with it', () => {
    const older = parseLinkedEntries(PARTITIONED_BEFORE_14)
    const chosen = (dumpVersion: number) =>
      chooseEntries(older, { ...ALL, tables: ['part'] }, ['public'], dumpVersion).ids
    expect(chosen(13)).toEqual([10, 11, 12, 30])
    expect(chosen(14)).toEqual([10])
  })

  test('in a dump of rows, those of a table come without the ones that wait for them', () => {
    const rows = parseLinkedEntries(ROWS)
    expect(chooseEntries(rows, { ...ALL, tables: ['hen'] }, ['public'], 15).ids).toEqual([40])
  })

  test('names with spaces are told apart by those that are known', () => {
    const line = '215; 1259 16388 TABLE two words a table my role\n'
    const [entry] = parseLinkedEntries(line, { owners: ['role', 'my role'], schemas: ['two words'] })
    expect(entry).toMatchObject({ schema: 'two words', name: 'a table', owner: 'my role' })
  })

  test('rows are told from what names roles', () => {
    const { before, rows, after } = partsOf(parseLinkedEntries(MIXED))
    expect([before, rows, after].map((part) => part.map(({ dumpId }) => dumpId))).toEqual([
      [1, 5],
      [3, 4, 6],
      [2, 7, 8],
    ])
  })

  test("the database's own privileges are told from those of its content", () => {
    expect(databaseEntries(entries)).toEqual([3401])
  })
})
