import { randomBytes } from 'node:crypto'
import {
  closeSync,
  futimesSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'

/**
 * The spool: what one call of a hook leaves for the next ones, which `bin/pgrecall` then answers without starting Node.
 * It lies in `pg_wal`, so that it belongs to one data directory, comes and goes with its WAL, and is on the same
 * filesystem. docs/wal.md has the whole of it; the launcher reads what is written here.
 */
export const SPOOL = join('pg_wal', 'pgrecall')
/** Notes of WAL files that are stored in every repository. */
export const PUSHED = join(SPOOL, 'pushed')
/** Segments that are ready for a recovery, with a note each. */
export const READY = join(SPOOL, 'ready')
const CONFIG = join(SPOOL, 'config')

/** What a note is good for: the same call, under the same configuration, since the same start of the machine. */
export interface Circumstances {
  /** The data directory. */
  root: string
  lines: readonly string[]
}

export interface CallFacts {
  /** The data directory: where PostgreSQL runs its hooks. */
  root: string
  /** Arguments and environment, as the launcher puts them into one line (`PGRECALL_CALL`). */
  call: string | undefined
  config: { file: string | undefined; changedAtNs?: bigint; absent: readonly string[] }
}

/**
 * What must still hold when a note is believed. Whatever cannot be put so that the launcher can test it makes a note
 * impossible, and each call starts Node.
 * @returns undefined when there can be no notes
 */
export function circumstancesOf({ root, call, config }: CallFacts): Circumstances | undefined {
  const boot = bootId()
  if (call === undefined || boot === undefined) return undefined
  const lines = ['pgrecall 1', `boot ${boot}`, `call ${call}`]
  for (const path of config.absent) lines.push(`absent ${path}`)
  if (config.file !== undefined) {
    if (config.changedAtNs === undefined) return undefined
    const stamp = stampConfig(root, config.file, config.changedAtNs)
    lines.push(`config ${stamp} ${config.file}`)
  }
  return lines.every(isReadable) ? { root, lines } : undefined
}

/**
 * Writes a note: whole or not at all, and not durable, since it is not believed after the machine was started again.
 * @param path the note's, relative to the data directory
 * @param more lines beside the circumstances
 * @param timeNs the time that the note's file is to have
 * @returns false when a line cannot be written so that the launcher reads it
 */
export function writeNote(
  { root, lines }: Circumstances,
  path: string,
  more: readonly string[],
  timeNs?: bigint,
): boolean {
  if (!more.every(isReadable)) return false
  place(join(root, path), noteText({ lines }, more), timeNs)
  return true
}

/** What a note says that holds. @param more lines beside the circumstances */
export function noteText({ lines }: Pick<Circumstances, 'lines'>, more: readonly string[] = []): string {
  return [...lines, ...more, 'end', ''].join('\n')
}

/**
 * How far two files' times lie around a moment: close, so that they enclose it, and the shell, which can only compare the
 * times of files, can tell whether another file was changed at just that moment. Node sets times to some hundred
 * nanoseconds.
 */
export const TIME_MARGIN_NS = 1000n

/** An empty file of that time. @param path relative to the data directory */
export function writeStamp({ root }: Pick<Circumstances, 'root'>, path: string, timeNs: bigint): void {
  place(join(root, path), '', timeNs)
}

/** The configuration's time of change, and where its path leads to. @returns what the stamps are called */
function stampConfig(root: string, file: string, changedAtNs: bigint): string {
  const real = realpathSync(file)
  const stamp = `${statSync(real, { bigint: true }).ino}-${changedAtNs}`
  const folder = join(root, CONFIG)
  makeFolder(folder)
  const [from, to, link] = [`${stamp}.from`, stamp, `${stamp}.file`]
  const entries = readdirSync(folder)
  const isThere = [from, to, link].every((name) => entries.includes(name))
  if (isThere && readlinkSync(join(folder, link)) === real) return stamp
  // Those of a configuration that is not in force any more.
  for (const entry of entries) rmSync(join(folder, entry), { force: true })
  writeStamp({ root }, join(CONFIG, from), changedAtNs - TIME_MARGIN_NS)
  writeStamp({ root }, join(CONFIG, to), changedAtNs + TIME_MARGIN_NS)
  const temporary = join(folder, `${randomBytes(6).toString('hex')}.new`)
  symlinkSync(real, temporary)
  renameSync(temporary, join(folder, link))
  return stamp
}

/** Small files one after the other: each asynchronous call would be a trip to another thread. */
function place(path: string, text: string, timeNs: bigint | undefined): void {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.new`
  try {
    const file = openSync(temporary, 'wx', 0o600)
    try {
      writeSync(file, text)
      const seconds = Number(timeNs) / 1e9
      if (timeNs !== undefined) futimesSync(file, seconds, seconds)
    } finally {
      closeSync(file)
    }
    renameSync(temporary, path)
  } catch (error) {
    rmSync(temporary, { force: true })
    throw error
  }
}

/** Makes a folder of the spool. @param path absolute */
export function makeFolder(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 })
}

/** Linux gives each start of the machine a name of its own. */
function bootId(): string | undefined {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim() || undefined
  } catch {
    return undefined
  }
}

/** The shell's `read` drops white space at the ends, and a line is a line. */
const isReadable = (line: string) => /^\S+( .*\S)?$/.test(line) && !/[\n\0\t]/.test(line)
