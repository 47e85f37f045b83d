import { expect, test } from 'vitest'
import { attachProgress, type ProgressOptions } from '../../src/cli/progress.ts'
import { Terminal } from '../../src/cli/terminal.ts'
import { Events } from '../../src/events.ts'
import { Screen } from './screen.ts'

const MiB = 1024 ** 2

function setup(
  options: Partial<ProgressOptions> & { columns?: number; interactive?: boolean; color?: boolean },
) {
  const { columns = 100, interactive = true, color = false, ...rest } = options
  const screen = new Screen(columns)
  const events = new Events()
  let now = 1000
  const terminal = new Terminal({ stream: screen, color, interactive })
  attachProgress(events, terminal, { clock: () => now, ...rest })
  const at = (ms: number, bytes: number, total: number | undefined, items = 812) => {
    now = 1000 + ms
    events.emit('progress', { task: 'Copying', bytes, total, items })
  }
  const end = (ms: number) => {
    now = 1000 + ms
    events.emit('progressEnd', { task: 'Copying' })
  }
  return { screen, events, at, end }
}

test('a bar with share, amount, rate, time left and files', () => {
  const { screen, at } = setup({})
  at(0, 0, 1000 * MiB)
  at(2000, 640 * MiB, 1000 * MiB)
  expect(screen.rows).toEqual([
    `Copying  [${'█'.repeat(15)}▎${'·'.repeat(8)}]  64%  640 MiB of 1000 MiB  320 MiB/s  00:02 left  812 files`,
  ])
})

test.each([
  [80, 'Copying  [██████████]  100%  100 MiB of 100 MiB  100 MiB/s  00:00 left  1 file'],
  [78, 'Copying  [██████████]  100%  100 MiB of 100 MiB  100 MiB/s  00:00 left'],
  [40, 'Copying  [██████████]  100%'],
  [10, 'Copying'],
  [5, 'Copy'],
])('on %d columns the parts on the right give way', (columns, line) => {
  const { screen, at } = setup({ columns })
  at(0, 0, 100 * MiB, 1)
  at(1000, 100 * MiB, 100 * MiB, 1)
  expect(screen.rows).toEqual([line])
})

test('bars are ASCII without UTF-8, and counts beyond the total stay at 100%', () => {
  const { screen, at } = setup({ unicode: false, columns: 40 })
  at(0, 55, 100)
  expect(screen.rows).toEqual(['Copying  [#####.....]  55%'])
  at(100, 120, 100)
  expect(screen.rows).toEqual(['Copying  [##########]  100%'])
})

test('without a total there is no bar to draw', () => {
  const { screen, at } = setup({})
  at(0, 0, undefined, 0)
  at(1000, 3 * MiB, undefined, 0)
  expect(screen.rows).toEqual(['Copying  3.0 MiB  3.0 MiB/s'])
})

test('the rate is that of the last seconds', () => {
  const { screen, at } = setup({})
  for (let second = 0; second <= 10; second++) at(second * 1000, second * 100 * MiB, undefined)
  for (let second = 11; second <= 20; second++) at(second * 1000, (990 + second) * MiB, undefined)
  expect(screen.rows[0]).toContain(' 1.0 MiB/s')
})

test('no more than ten drawings a second', () => {
  const { screen, at } = setup({})
  let drawings = 0
  for (let ms = 0; ms < 1000; ms++) {
    const before = screen.written
    at(ms, ms, 1000)
    if (screen.written !== before) drawings++
  }
  expect(drawings).toBe(10)
})

test('the end leaves one line, with the counts of the last event even if it was not drawn', () => {
  const { screen, at, end } = setup({})
  at(0, 0, 1900 * MiB)
  at(50, 1900 * MiB, 1900 * MiB)
  end(4600)
  end(4700)
  expect(screen.rows).toEqual(['Copying: 1.9 GiB in 4.6 s, 413 MiB/s', ''])
})

test('tasks at the same time have a row each', () => {
  const { screen, events, at, end } = setup({})
  events.emit('progress', { task: 'Archiving', bytes: 5, total: undefined, items: 0 })
  at(100, 0, undefined, 0)
  expect(screen.rows).toEqual(['Archiving  5 B', 'Copying  0 B'])
  end(100)
  expect(screen.rows).toEqual(['Copying: 0 B in 0 ms', 'Archiving  5 B'])
})

test('steps and warnings, with what they quote made harmless', () => {
  const { screen, events } = setup({ color: true })
  events.emit('step', { text: 'Reading the manifest' })
  events.emit('warning', { text: 'odd name "a\nb\x1b[2J"' })
  expect(screen.rows).toEqual(['• Reading the manifest', 'warning: odd name "a\\nb\\x1b[2J"', ''])
  expect(screen.written).toContain('\x1b[33mwarning:\x1b[39m odd')
})

test('not interactive: sentences alone', () => {
  const { screen, events, at, end } = setup({ interactive: false })
  events.emit('step', { text: 'Starting' })
  at(0, 0, 10)
  end(1000)
  expect(screen.written).toBe('Starting\nCopying: 0 B in 1.0 s, 0 B/s\n')
})

test('quiet: warnings only', () => {
  const { screen, events, at, end } = setup({ quiet: true })
  events.emit('step', { text: 'Starting' })
  at(0, 5, 10)
  end(1000)
  events.emit('warning', { text: 'disk nearly full' })
  expect(screen.written).toBe('warning: disk nearly full\n')
})
