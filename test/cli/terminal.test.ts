import { EventEmitter } from 'node:events'
import { expect, test } from 'vitest'
import { decideColor, displayWidth, paint, Terminal, type TerminalStream } from '../../src/cli/terminal.ts'
import { Screen } from './screen.ts'

test('lines scroll by above the progress area', () => {
  const screen = new Screen()
  const terminal = new Terminal({ stream: screen, color: false, interactive: true })
  terminal.clearStatus()
  terminal.line('one')
  terminal.setStatus(['bar 1', 'bar 2'])
  terminal.line('two\nthree\n')
  expect(screen.rows).toEqual(['one', 'two', 'three', 'bar 1', 'bar 2'])
  terminal.setStatus(['bar 3'])
  expect(screen.rows).toEqual(['one', 'two', 'three', 'bar 3'])
  terminal.close()
  terminal.setStatus(['too late'])
  expect(screen.rows).toEqual(['one', 'two', 'three', ''])
  terminal.line('four')
  terminal.close()
  expect(screen.rows).toEqual(['one', 'two', 'three', 'four', ''])
})

test('an unchanged progress area is not written again', () => {
  const screen = new Screen()
  const terminal = new Terminal({ stream: screen, color: false, interactive: true })
  terminal.setStatus(['same'])
  const written = screen.written
  terminal.setStatus(['same'])
  expect(screen.written).toBe(written)
})

test('rows never wrap, and rows wrapped by a narrower window are erased whole', () => {
  const screen = new Screen(20)
  const terminal = new Terminal({ stream: screen, color: true, interactive: true })
  terminal.setStatus([paint('0123456789'.repeat(3), 'bold', true)])
  expect(screen.rows).toEqual(['0123456789012345678'])
  screen.narrow(10)
  terminal.clearStatus()
  expect(screen.rows).toEqual([''])
})

test('without interaction there is no progress area and no escape sequence', () => {
  const screen = new Screen()
  const terminal = new Terminal({ stream: screen, color: false, interactive: false })
  terminal.setStatus(['bar'])
  terminal.line('text')
  terminal.close()
  expect(screen.written).toBe('text\n')
})

test('only colours and line ends pass through', () => {
  const screen = new Screen()
  const text = `${paint('red', 'red', true)}\x1b[2J\x1b]0;title\x07\r\tend`
  new Terminal({ stream: screen, color: true, interactive: false }).line(text)
  expect(screen.written).toBe('\x1b[31mred\x1b[39m\\x1b[2J\\x1b]0;title\\x07\\r\tend\n')
  screen.written = ''
  new Terminal({ stream: screen, color: false, interactive: false }).line(text)
  expect(screen.written).toMatch(/^[^\x1b]*$/)
})

test('a reader that went away does not stop the work', () => {
  const screen = new Screen()
  const terminal = new Terminal({ stream: screen, color: false, interactive: true })
  screen.emit('error', new Error('EPIPE'))
  terminal.line('lost')
  expect(screen.written).toBe('')
})

test.each([
  [{}, true, true],
  [{}, false, false],
  [{ TERM: 'dumb' }, true, false],
  [{ NO_COLOR: '1' }, true, false],
  [{ NO_COLOR: '' }, true, true],
  [{ NO_COLOR: '1', FORCE_COLOR: '1' }, true, false],
  [{ FORCE_COLOR: '1' }, false, true],
  [{ FORCE_COLOR: '0' }, true, false],
])('colour with %o on a terminal (%s): %s', (env, isTTY, expected) => {
  expect(decideColor(env, { isTTY })).toBe(expected)
})

test('paint leaves text alone without colour', () => {
  expect(paint('text', ['bold', 'red'], false)).toBe('text')
  expect(paint('text', ['bold', 'red'], true)).toBe('\x1b[1m\x1b[31mtext\x1b[39m\x1b[22m')
  expect(paint('', 'red', true)).toBe('')
})

test.each([
  ['plain', 5],
  ['\x1b[1mbold\x1b[22m', 4],
  ['한글', 4],
  ['ｆ', 2],
  ['é', 1],
  ['e\u0301', 1],
  ['👨‍👩‍👧', 2],
  ['❤️', 2],
  ['█▌·…', 4],
])('%s is %d columns wide', (text, width) => {
  expect(displayWidth(text)).toBe(width)
})

test('a stream that does not know its width counts as 80 columns', () => {
  const stream = Object.assign(new EventEmitter(), { columns: 0 }) as unknown as TerminalStream
  expect(new Terminal({ stream, color: false, interactive: false }).columns).toBe(80)
})
