import { expect, test } from 'vitest'
import { chooseDatabases } from '../../src/logical/choose-databases.ts'
import type { DumpableDatabase } from '../../src/postgres/dumpable.ts'

const database = (name: string, facts: Partial<DumpableDatabase> = {}): DumpableDatabase => ({
  oid: '5',
  name,
  owner: 'postgres',
  encoding: 'UTF8',
  collate: 'C',
  ctype: 'C',
  provider: 'libc',
  locale: undefined,
  isTemplate: false,
  allowsConnections: true,
  mayConnect: true,
  isInvalid: false,
  bytes: 1,
  ...facts,
})

const ALL = [
  database('shop'),
  database('crm_one'),
  database('crm_two'),
  database('template1', { isTemplate: true }),
  database('closed', { allowsConnections: false }),
  database('dropped', { isInvalid: true }),
]

function chosen(include: string[], exclude: string[] = [], all = ALL) {
  const { databases, warnings } = chooseDatabases(all, { include, exclude })
  return { names: databases.map(({ name }) => name), warnings }
}

test('all but templates, with a warning of each that cannot be dumped', () => {
  expect(chosen([])).toEqual({
    names: ['shop', 'crm_one', 'crm_two'],
    warnings: [
      'database "closed" allows no connections, and is not in this backup',
      'database "dropped" is what an interrupted DROP DATABASE has left, and is not in this backup',
    ],
  })
  expect(chosen(['crm_*', 'template1'], ['crm_t?o']).names).toEqual(['crm_one', 'template1'])
})

test('what is named and is not there, or cannot be dumped, is an error', () => {
  expect(() => chosen(['shop', 'none*'])).toThrow(expect.objectContaining({ kind: 'absent' }))
  for (const name of ['closed', 'dropped'])
    expect(() => chosen([name])).toThrow(expect.objectContaining({ kind: 'refused' }))
  const refused = [database('secret', { mayConnect: false })]
  expect(() => chosen([], [], refused)).toThrow(expect.objectContaining({ kind: 'refused' }))
  expect(() => chosen(['shop'], ['shop'])).toThrow(expect.objectContaining({ kind: 'refused' }))
})

test('what is to be left out and is not there is a warning', () => {
  expect(chosen(['shop'], ['none*'])).toEqual({
    names: ['shop'],
    warnings: ['no database is called "none*", so there was none to leave out'],
  })
})
