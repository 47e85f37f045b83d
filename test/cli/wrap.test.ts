import { expect, test } from 'vitest'
import { renderTable } from '../../src/cli/table.ts'
import { wrapped } from '../../src/cli/wrap.ts'
import { findingText } from '../../src/commands/check.ts'

test('a sentence is broken at its blanks, and what is wider than the terminal stays whole', () => {
  expect(wrapped('one two  three', 2, 10)).toEqual(['one two', 'three'])
  expect(wrapped('  set off', 0, 80)).toEqual(['  set off'])
  expect(wrapped('see /a/very/long/path now', 0, 8)).toEqual(['see', '/a/very/long/path', 'now'])
  expect(wrapped('one two', 0, undefined)).toEqual(['one two'])
  expect(wrapped('', 0, 5)).toEqual([''])
})

test('a column of sentences goes on below itself, and others make room for it before', () => {
  const columns = [
    { title: 'Backup', whole: true },
    { title: 'Ends at', whole: true, leaveOut: 1 },
    { title: 'Why', wraps: true },
  ]
  const rows = [
    ['first', '2026-11-20', 'one of the newest two of these'],
    ['second', '2026-11-21', 'kept'],
  ]
  const inColumns = (width: number) => renderTable(columns, rows, { color: false, width }).split('\n')
  expect(inColumns(44)).toEqual([
    'Backup  Ends at     Why',
    'first   2026-11-20  one of the newest two of',
    '                    these',
    'second  2026-11-21  kept',
  ])
  expect(inColumns(40)).toEqual(['Backup  Why', 'first   one of the newest two of these', 'second  kept'])
})

test('what check found goes on below itself, and each line of a mend', () => {
  const finding = {
    ...{ subject: 'slots', verdict: 'warn' as const, text: 'the slot of a standby holds back WAL' },
    hint: 'drop it, if nobody needs it\nor let the standby come back',
  }
  expect(findingText(finding, { color: false, width: 30 }).split('\n')).toEqual([
    'warn  slots: the slot of a',
    '      standby holds back WAL',
    '      drop it, if nobody needs',
    '      it',
    '      or let the standby come',
    '      back',
  ])
})
