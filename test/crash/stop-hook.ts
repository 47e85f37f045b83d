import fs from 'node:fs'
import promises, { type FileHandle } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { isMainThread } from 'node:worker_threads'

/**
 * Loaded into pgrecall before its own code (`node --import`): sees every call that changes something on disk, writes
 * it to a log, and at the one that is asked for ends the process as `kill -9` does, before the call or, for writes,
 * in the middle of it. Between two such calls a kill leaves the same files, so together they are all the moments.
 */
const { log, stopAt, nth, roots } = JSON.parse(process.env.PGRECALL_TEST_STOP ?? '{}') as {
  /** File that gets a line for each step. */
  log?: string
  /** The step to end at, as the log has it, and at its which occurrence in a thread. */
  stopAt?: string
  nth?: number
  /** Folders, and what the log calls them. */
  roots: Record<string, string>
}
const { openSync, writeSync } = fs
const logFile = log === undefined ? undefined : openSync(log, 'a')
const pathOf = new WeakMap<object, string>()
const pathOfFile = new Map<number, string>()
let met = 0

/** What a step is called: the same in every run. */
function nameOf(call: string, paths: unknown[]): string {
  let text = [...(isMainThread ? [] : ['thread:']), call, ...paths.map(String)].join(' ')
  for (const [folder, name] of Object.entries(roots)) text = text.replaceAll(folder, name)
  return text
    .replace(/\d{8}T\d{6}Z-[a-z]+/g, 'ID')
    .replace(/\.incoming\/[^/ ]+/g, '.incoming/TEMPORARY')
    .replace(/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'UUID')
    .replace(/[0-9A-F]{24}/g, 'SEGMENT')
}

function reached(step: string): boolean {
  if (logFile !== undefined) writeSync(logFile, `${step}\n`)
  return step === stopAt && ++met === (nth ?? 1)
}

function die(): never {
  process.kill(process.pid, 'SIGKILL')
  // Nothing of pgrecall may run until the signal is delivered.
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
}

type Call = (this: object, ...args: never[]) => unknown

/** @param paths gives what a call changes, or undefined when it changes nothing */
function watch(owner: object, call: string, paths: (self: object, args: unknown[]) => unknown[] | undefined) {
  const holder = owner as Record<string, Call>
  const original = holder[call]!
  holder[call] = function (this: object, ...args: never[]) {
    const changed = paths(this, args)
    if (changed && reached(nameOf(call, changed))) die()
    return original.apply(this, args)
  }
}

/** A write has two steps: before it, and in its middle. */
function watchWrite(
  owner: object,
  call: string,
  facts: (self: object, args: unknown[]) => { path: string; bytes: Buffer; file: () => number },
) {
  const holder = owner as Record<string, Call>
  const original = holder[call]!
  holder[call] = function (this: object, ...args: never[]) {
    const { path, bytes, file } = facts(this, args)
    const step = nameOf(call, [path])
    if (reached(step)) die()
    if (reached(`${step}, half`)) {
      writeSync(file(), bytes, 0, bytes.length >> 1)
      die()
    }
    return original.apply(this, args)
  }
}

const bytesOf = ([, data, at, length]: unknown[]) => {
  const bytes = Buffer.from(data as Buffer)
  return typeof at === 'number' && typeof length === 'number' ? bytes.subarray(at, at + length) : bytes
}
const isForWriting = (flags: unknown) =>
  typeof flags === 'number' ? (flags & (fs.constants.O_WRONLY | fs.constants.O_RDWR)) !== 0 : flags !== 'r'

const openHandle = promises.open
const handlePrototype = Object.getPrototypeOf(await openHandle('/dev/null', 'r').then(closed)) as FileHandle

async function closed(handle: FileHandle): Promise<FileHandle> {
  await handle.close()
  return handle
}

promises.open = async (path, flags = 'r', mode) => {
  if (isForWriting(flags) && reached(nameOf('open', [path]))) die()
  const handle = await openHandle(path, flags, mode)
  pathOf.set(handle, String(path))
  return handle
}
fs.openSync = (path, flags, mode) => {
  if (isForWriting(flags) && reached(nameOf('openSync', [path]))) die()
  const file = openSync(path, flags, mode)
  pathOfFile.set(file, String(path))
  return file
}
for (const call of ['mkdir', 'rm', 'rmdir', 'unlink']) watch(promises, call, (_self, [path]) => [path])
for (const call of ['rename', 'link', 'symlink']) watch(promises, call, (_self, paths) => paths.slice(0, 2))
watch(fs, 'mkdirSync', (_self, [path]) => [path])
watchWrite(handlePrototype, 'write', (self, [data, at, length]) => ({
  path: pathOf.get(self) ?? '?',
  bytes: bytesOf([undefined, data, at, length]),
  file: () => (self as FileHandle).fd,
}))
watchWrite(handlePrototype, 'writeFile', (self, [data]) => ({
  path: pathOf.get(self) ?? '?',
  bytes: Buffer.from(data as Buffer),
  file: () => (self as FileHandle).fd,
}))
watchWrite(promises, 'writeFile', (_self, [path, data]) => ({
  path: String(path),
  bytes: Buffer.from(data as Buffer),
  file: () => openSync(String(path), 'w', 0o600),
}))
watchWrite(fs, 'writeSync', (_self, args) => ({
  path: pathOfFile.get(args[0] as number) ?? '?',
  bytes: bytesOf(args),
  file: () => args[0] as number,
}))
syncBuiltinESMExports()
