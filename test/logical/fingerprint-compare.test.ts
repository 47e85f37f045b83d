import { expect, test } from 'vitest'
import { fingerprintKey, keysOfData, type TableFingerprint } from '../../src/logical/fingerprint.ts'
import { compareFingerprints, differenceText } from '../../src/logical/fingerprint-compare.ts'

const table = (name: string, rest: Partial<TableFingerprint> = {}): TableFingerprint => ({
  kind: 'table',
  schema: 'public',
  name,
  rows: 3,
  content: '42',
  ...rest,
})
const sequence = (content: string): TableFingerprint => ({
  kind: 'sequence',
  schema: 's',
  name: 'q',
  content,
})

const told = (recorded: TableFingerprint[], found: TableFingerprint[]) =>
  compareFingerprints(recorded, found).map((each) => [each.kind, differenceText(each)])

test('what is the same, in whatever order, is no difference', () => {
  const all = [table('a'), table('b', { kind: 'materialized view' }), sequence('7, given out')]
  expect(told(all, all.toReversed())).toEqual([])
  const none: TableFingerprint = { kind: 'large objects', rows: 0, content: '0' }
  expect(told([none], [])).toEqual([])
  expect(told([], [none])).toEqual([])
})

test('each difference is told as what it is', () => {
  expect(
    told(
      [
        table('gone'),
        table('short', { rows: 5 }),
        table('other'),
        sequence('7, given out'),
        table('hidden', { fault: 'the role may not read it' }),
        { kind: 'large objects', rows: 2, content: '9' },
      ],
      [
        table('new'),
        table('short'),
        table('other', { content: '43' }),
        sequence('7, not given out'),
        table('hidden'),
        { kind: 'large objects', rows: 1, content: '5' },
      ],
    ),
  ).toEqual([
    ['missing', 'table "public"."gone": not there'],
    ['rows', 'table "public"."short": 3 instead of 5 rows'],
    ['content', 'table "public"."other": as many, but not the same'],
    ['sequence', 'sequence "s"."q": 7, not given out instead of 7, given out'],
    ['unknown', 'table "public"."hidden": not compared, at the backup the role may not read it'],
    ['rows', 'large objects: 1 instead of 2'],
    ['unexpected', 'table "public"."new": not in the backup'],
  ])
})

test('the list of an archive tells whose rows are in it', () => {
  const entry = { dumpId: 1, schema: 'a b', name: 't x', owner: 'o' }
  const keys = keysOfData([
    { ...entry, type: 'TABLE' },
    { ...entry, type: 'TABLE DATA' },
    { ...entry, type: 'SEQUENCE SET', name: 'q' },
    { ...entry, type: 'BLOBS', schema: undefined, name: 'BLOBS' },
  ])
  // A list has spaces for line breaks.
  expect(new Set(keys.keys())).toEqual(
    new Set([
      fingerprintKey({ kind: 'table', schema: 'a b', name: 't\nx' }),
      fingerprintKey({ kind: 'sequence', schema: 'a b', name: 'q' }),
      fingerprintKey({ kind: 'large objects' }),
    ]),
  )
})
