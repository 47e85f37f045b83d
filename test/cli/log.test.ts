import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createLogger, type LogOptions } from '../../src/cli/log.ts'
import { redactText } from '../../src/cli/redact.ts'
import { Terminal } from '../../src/cli/terminal.ts'
import { Events } from '../../src/events.ts'
import { Screen } from './screen.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'pgrecall-log-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

async function start(options: Partial<LogOptions> = {}) {
  const events = new Events()
  const file = path.join(folder, 'deep', 'pgrecall.log')
  const log = await createLogger({ level: 'trace', events, file, ...options })
  const lines = () =>
    readFileSync(file, 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
  return { ...log, events, file, lines }
}

test('events become lines, each on disk at once', async () => {
  const { events, lines, close } = await start()
  events.emit('step', { text: 'Starting' })
  expect(lines()).toMatchObject([{ level: 'info', msg: 'Starting' }])
  events.emit('warning', { text: 'careful' })
  events.emit('detail', { text: 'query', facts: { rows: 3, system: 7234567890123456789n } })
  events.emit('progress', { task: 'Copying', bytes: 10, total: 20, items: 1 })
  events.emit('progress', { task: 'Copying', bytes: 20, total: 20, items: 2 })
  events.emit('progressEnd', { task: 'Copying' })
  expect(lines().slice(1)).toMatchObject([
    { level: 'warn', msg: 'careful' },
    { level: 'debug', msg: 'query', rows: 3 },
    { level: 'info', msg: 'Copying: finished', bytes: 20, items: 2 },
  ])
  close()
})

test('the file is private, and appended to', async () => {
  const first = await start()
  first.logger.info({ system: 7234567890123456789n }, 'first')
  first.close()
  const second = await start()
  second.logger.info('second')
  second.close()
  expect(second.lines().map((line) => line.msg)).toEqual(['first', 'second'])
  expect(readFileSync(first.file, 'utf8')).toContain('"system":7234567890123456789')
  expect(statSync(first.file).mode & 0o777).toBe(0o600)
  expect(statSync(path.dirname(first.file)).mode & 0o777).toBe(0o700)
})

test('the level is kept', async () => {
  const { logger, events, lines, close } = await start({ level: 'info' })
  events.emit('detail', { text: 'too fine' })
  logger.info('shown')
  expect(lines().map((line) => line.msg)).toEqual(['shown'])
  close()
})

test('a file that cannot be opened is a warning, not an error', async () => {
  writeFileSync(path.join(folder, 'deep'), '')
  const { warning, logger, file } = await start()
  expect(warning).toContain(`the log file ${file} cannot be opened`)
  logger.error('goes nowhere')
})

test('a disk that is full warns once', async () => {
  const warnings: string[] = []
  const events = new Events().on('warning', ({ text }) => warnings.push(text))
  const { logger } = await createLogger({ level: 'info', events, file: '/dev/full' })
  logger.info('lost')
  logger.info('lost too')
  expect(warnings).toEqual([expect.stringContaining('the log file /dev/full cannot be written: ENOSPC')])
})

test('the terminal gets debug lines, and not what it shows already', async () => {
  const screen = new Screen()
  const terminal = new Terminal({ stream: screen, color: true, interactive: true })
  const { events, close } = await start({ terminal, level: 'debug' })
  terminal.setStatus(['bar'])
  events.emit('step', { text: 'Starting' })
  events.emit('detail', { text: 'password=hunter2 \x1b[31mred', facts: { rows: 3 } })
  expect(screen.rows.at(-1)).toBe('bar')
  expect(screen.written).not.toMatch(/Starting|hunter2|\x1b\[31mred/)
  expect(screen.rows[0]).toMatch(/^\[\d\d:\d\d:\d\d\.\d{3}\] DEBUG: password=\*\*\* \\x1b\[31mred$/)
  expect(screen.rows[1]).toBe('    rows: 3')
  close()
})

test('at info the terminal gets nothing', async () => {
  const screen = new Screen()
  const terminal = new Terminal({ stream: screen, color: false, interactive: false })
  const { logger, close } = await start({ terminal, level: 'info', file: undefined })
  logger.warn('x')
  expect(screen.written).toBe('')
  close()
})

test('secrets do not pass, wherever they stand', async () => {
  const { logger, events, file, close } = await start()
  const uri = 'postgres://joe:hunter2@db/app'
  logger.info({ password: 'hunter2', connection: { password: 'hunter2', user: 'kept' } }, uri)
  logger.info({ password: { nested: 'hunter2' }, s3: { secretAccessKey: 'hunter2' }, identity: ['hunter2'] })
  logger.info({ a: { b: { c: { d: { password: 'hunter2', env: { PGPASSWORD: 'hunter2' } } } } } })
  logger.info('host=db password=%s', 'hunter2')
  logger.child({ password: 'hunter2', source: uri }).info('child')
  logger.error(new Error(`cannot reach ${uri}`, { cause: new Error(uri) }))
  events.emit('step', { text: uri })
  events.emit('detail', { text: 'facts', facts: { [uri]: [uri] } })
  const text = readFileSync(file, 'utf8')
  expect(text).not.toContain('hunter2')
  expect(text).toContain('"user":"kept"')
  expect(
    text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line)),
  ).toHaveLength(8)
  close()
})

test.each([
  ['postgres://joe:secret@host/db', 'postgres://joe:***@host/db'],
  ['"postgresql://:se:cr@et/x@host" failed', '"postgresql://:***@host" failed'],
  ['postgres://joe@host:5432/db', 'postgres://joe@host:5432/db'],
  ['postgres://host/db?user=joe&password=secret', 'postgres://host/db?user=joe&password=***'],
  ['https://key:secret@host/a', 'https://key:***@host/a'],
  ['http://host:9000/bucket/a@b', 'http://host:9000/bucket/a@b'],
  ['host=db password=secret user=joe', 'host=db password=*** user=joe'],
  ["password = 'se\\'cr et' user=joe", 'password = *** user=joe'],
  ['password=se\\ cret user=joe', 'password=*** user=joe'],
  ["password='never closed", 'password=***'],
  ['password authentication failed for user "joe"', 'password authentication failed for user "joe"'],
  ['AGE-SECRET-KEY-1QQQ is it', '*** is it'],
])('%s is logged as %s', (text, redacted) => {
  expect(redactText(text)).toBe(redacted)
})

test('an existing folder keeps its mode', async () => {
  const shared = path.join(folder, 'deep')
  mkdirSync(shared)
  chmodSync(shared, 0o750)
  const { close } = await start()
  expect(statSync(shared).mode & 0o777).toBe(0o750)
  close()
})
