import { stripVTControlCharacters } from 'node:util'
import { expect, test } from 'vitest'
import { type Column, renderTable } from '../../src/cli/table.ts'

const columns = [
  { title: 'Name' },
  { title: 'Size', align: 'right' as const },
  { title: 'Note', style: 'dim' as const },
]

test('columns are aligned, and lines end where their text ends', () => {
  const table = renderTable(columns, [['main', '5 B', 'ok'], ['replica-2', '12 B', ''], ['x']], {
    color: false,
  })
  expect(table.split('\n')).toEqual(['Name       Size  Note', 'main        5 B  ok', 'replica-2  12 B', 'x'])
})

test('wide and combining characters take their width on screen', () => {
  const table = renderTable(
    [{ title: 'N' }, { title: 'V' }],
    [
      ['日本', '1'],
      ['e\u0301', '2'],
      ['👍🏽', '3'],
    ],
    {
      color: false,
    },
  )
  expect(table.split('\n')).toEqual(['N     V', '日本  1', 'e\u0301     2', '👍🏽    3'])
})

test('colour changes neither alignment nor line ends', () => {
  const rows = [
    ['main', '5 B', 'ok'],
    ['replica-2', '12 B'],
  ]
  const coloured = renderTable(columns, rows, { color: true })
  expect(coloured).toContain('\x1b[1mName\x1b[22m')
  expect(coloured).toContain('\x1b[2mok\x1b[22m')
  expect(stripVTControlCharacters(coloured)).toBe(renderTable(columns, rows, { color: false }))
})

test('a style may depend on the cell', () => {
  const style = (cell: string) => (cell === 'failed' ? ('red' as const) : undefined)
  const table = renderTable([{ title: 'State', style }], [['failed'], ['ok']], { color: true })
  expect(table.split('\n').slice(1)).toEqual(['\x1b[31mfailed\x1b[39m', 'ok'])
})

test('hostile names are shown, not obeyed', () => {
  const table = renderTable([{ title: 'Name' }], [['a\x1b[2Jb\nc\u202ed\x9b\ud800']], { color: false })
  expect(table).toBe('Name\na\\x1b[2Jb\\nc\\u202ed\\x9b\\ud800')
})

test('too wide a table loses text of its widest left column, never digits', () => {
  const row = ['a-long-name-indeed', '123456789012345678 B', 'short']
  const [, line] = renderTable(columns, [row], { color: false, width: 40 }).split('\n')
  expect(line).toBe('a-long-nam…  123456789012345678 B  short')
})

test('what must be whole is not cut, and where that is too wide, columns are left out, the lowest first', () => {
  const columns: Column[] = [
    { title: 'Id', whole: true },
    { title: 'Method', whole: true, leaveOut: 1 },
    { title: 'Size', align: 'right', leaveOut: 2 },
    { title: 'Label' },
  ]
  const rows = [['20261120T120000Z-full', 'snapshot', '1.0 GiB', 'before the great upgrade']]
  const at = (width: number) => renderTable(columns, rows, { color: false, width }).split('\n')[1]
  expect(at(80)).toBe('20261120T120000Z-full  snapshot  1.0 GiB  before the great upgrade')
  expect(at(60)).toBe('20261120T120000Z-full  snapshot  1.0 GiB  before the great …')
  expect(at(45)).toBe('20261120T120000Z-full  1.0 GiB  before the g…')
  expect(at(36)).toBe('20261120T120000Z-full  before the g…')
  expect(at(10)).toBe('20261120T120000Z-full  before …')
})

test('there can be more rows than a function takes arguments', () => {
  const rows = Array.from({ length: 300_000 }, (_, index) => [`row ${index}`])
  const lines = renderTable([{ title: 'Name' }], rows, { color: false, width: 80 }).split('\n')
  expect(lines).toHaveLength(300_001)
  expect(lines.at(-1)).toBe('row 299999')
})
