import { mkdirSync, openSync } from 'node:fs'
import path from 'node:path'
import { type LevelWithSilent, type Logger, pino } from 'pino'
import { reasonOf } from '../errors.ts'
import type { EventMap, Events } from '../events.ts'
import { CENSOR, mapStrings, redactJson } from './redact.ts'
import type { Terminal } from './terminal.ts'

export interface LogOptions {
  /** What is recorded. At debug and trace, the lines below info also go to `terminal`. */
  level: LevelWithSilent
  events: Events
  /** Appended to, as JSON lines. Created with mode 0600, missing folders above it with 0700. */
  file?: string | undefined
  terminal?: Terminal | undefined
}

export interface Log {
  logger: Logger
  /** Set when the file could not be opened, and the work goes on without it: a sentence for the operator. */
  warning: string | undefined
  /** Closes the file. Every line is written before the call that logs it returns, so nothing waits for this. */
  close: () => void
}

const SECRET_KEYS = ['password', 'secretAccessKey', 'identity']

/**
 * Starts the log and subscribes it to the events. Lines of info and above are not repeated on the terminal,
 * where `attachProgress` already shows what they say. Secrets are redacted here, in everything that is logged.
 * @throws never for a file that cannot be opened or written; see `Log.warning`, and the `warning` event
 */
export async function createLogger(options: LogOptions): Promise<Log> {
  const { events, level } = options
  const file = options.file === undefined ? undefined : openFile(options.file, events)
  const show =
    options.terminal !== undefined && (level === 'debug' || level === 'trace')
      ? await terminalWriter(options.terminal)
      : undefined
  const write = (line: string) => {
    file?.destination?.write(line)
    show?.(line)
  }
  const logger = pino(
    {
      level: file?.destination || show ? level : 'silent',
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: SECRET_KEYS.flatMap((key) => [key, `*.${key}`, `*.*.${key}`]), censor: CENSOR },
      hooks: { streamWrite: redactJson },
    },
    { write },
  )
  logEvents(events, logger)
  return { logger, warning: file?.warning, close: () => file?.destination?.end() }
}

function logEvents(events: Events, logger: Logger): void {
  const latest = new Map<string, EventMap['progress']>()
  events.on('step', ({ text }) => logger.info(text))
  events.on('warning', ({ text }) => logger.warn(text))
  events.on('detail', ({ text, facts }) => logger.debug(facts ?? {}, text))
  events.on('progress', (event) => latest.set(event.task, event))
  events.on('progressEnd', ({ task }) => {
    const { bytes, items } = latest.get(task) ?? {}
    latest.delete(task)
    logger.info({ bytes, items }, `${task}: finished`)
  })
}

type Destination = ReturnType<typeof pino.destination>

function openFile(file: string, events: Events): { destination?: Destination; warning?: string } {
  let descriptor: number
  try {
    mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 })
    descriptor = openSync(file, 'a', 0o600)
  } catch (error) {
    return { warning: `the log file ${file} cannot be opened, going on without it: ${reasonOf(error)}` }
  }
  // A full disk must not grow memory without end: lines beyond maxLength bytes are dropped.
  const destination = pino.destination({ dest: descriptor, sync: true, maxLength: 1024 * 1024 })
  let warned = false
  destination.on('error', (error: unknown) => {
    if (warned) return
    warned = true
    events.emit('warning', { text: `the log file ${file} cannot be written: ${reasonOf(error)}` })
  })
  return { destination }
}

async function terminalWriter(terminal: Terminal): Promise<(line: string) => void> {
  const { prettyFactory } = await import('pino-pretty')
  const pretty = prettyFactory({
    colorize: terminal.color,
    ignore: 'pid,hostname',
    translateTime: 'SYS:HH:MM:ss.l',
  })
  return (line) => {
    if (!/^\{"level":"(?:debug|trace)"/.test(line)) return
    // The terminal lets colours through, which are pino-pretty's to choose and not those of a logged name.
    terminal.line(pretty(mapStrings(line, (text) => text.replaceAll('\x1b', '\\x1b'))))
  }
}
