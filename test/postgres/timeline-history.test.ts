import { expect, test } from 'vitest'
import { lsn } from '../../src/postgres/lsn.ts'
import { parseHistory } from '../../src/postgres/timeline-history.ts'

const FILE = `1\t0/5000028\tno recovery target specified

# restored by hand
3\t0/9000000\tbefore 2026-11-20 17:29:00+00
`

test('a history leads from the oldest timeline to its own without a gap', () => {
  expect(parseHistory(FILE, 4)).toEqual([
    { timeline: 1, begin: 0n, end: lsn('0/5000028') },
    { timeline: 3, begin: lsn('0/5000028'), end: lsn('0/9000000') },
    { timeline: 4, begin: lsn('0/9000000'), end: undefined },
  ])
})

test('the first timeline has no file and no ancestors', () => {
  expect(parseHistory('', 1)).toEqual([{ timeline: 1, begin: 0n, end: undefined }])
})

test('a timeline that was left before it began contributes nothing', () => {
  // recovery_target_timeline = 2 with a target that lies before timeline 2
  expect(parseHistory('1\t0/5000000\tx\n2\t0/4000000\tx\n', 3)).toEqual([
    { timeline: 1, begin: 0n, end: lsn('0/4000000') },
    { timeline: 2, begin: lsn('0/4000000'), end: lsn('0/4000000') },
    { timeline: 3, begin: lsn('0/4000000'), end: undefined },
  ])
})

test.each([
  ['1\t0/5000028', 'without a reason'],
  ['1 0/5000028 spaces instead of tabs', 'with spaces'],
  ['  1\t0/5000028\treason\r\n', 'with blanks at the start and the line ends of Windows'],
])('%j is read (%s)', (text) => {
  expect(parseHistory(text, 2)[0]).toEqual({ timeline: 1, begin: 0n, end: lsn('0/5000028') })
})

test.each([
  ['garbage', 2],
  ['1\tnowhere\treason', 2],
  ['1', 2],
  ['0\t0/5000028\treason', 2],
  ['1\t0/500002800\treason', 2],
  ['2\t0/5000028\treason\n1\t0/9000000\treason', 3],
  ['1\t0/5000028\treason\n1\t0/9000000\treason', 3],
  ['2\t0/5000028\treason', 2],
])('%j is no history of timeline %i', (text, timeline) => {
  expect(() => parseHistory(text, timeline)).toThrow(
    expect.objectContaining({
      kind: 'damaged',
      message: expect.stringContaining(`0000000${timeline}.history`),
    }),
  )
})
