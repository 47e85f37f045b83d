import { spawnSync } from 'node:child_process'
import { constants } from 'node:fs'
import { copyFile, cp, link, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { execa } from 'execa'
import { cleanEnvironment } from './environment.ts'
import { Scratch } from './scratch.ts'
import { asLabUser, labUser } from './user.ts'

const CHECKOUT = fileURLToPath(new URL('../../', import.meta.url)).replace(/\/$/, '')

export interface RunOptions {
  /** Default: the home. */
  cwd?: string
  /** Beside PATH and HOME. */
  env?: Record<string, string>
  /** For stdin, which is else empty. */
  input?: string | Uint8Array
  /** HOME; default an empty folder, so that no configuration of whoever runs the tests is found. */
  home?: string
  /** `lab` (the default) is the user of the servers; `self` is who runs the tests, maybe root. */
  user?: 'lab' | 'self'
  /** `inherit` shows stdout and stderr to whoever is at the terminal; default `pipe`. */
  output?: 'pipe' | 'inherit'
  /** Killed after this; default two minutes. */
  timeoutMs?: number
  /** Ends it with SIGTERM. */
  signal?: AbortSignal
}

export interface RunResult {
  /** Undefined when a signal ended it. */
  exitCode: number | undefined
  signal: string | undefined
  stdout: string
  stderr: string
}

/** pgrecall as it ships, started through its launcher. */
export interface Product {
  /** Absolute path of `bin/pgrecall`, where the lab's user can run it. */
  launcher: string
  /** A staged copy, which a kept lab must keep too. */
  stage: Scratch | undefined
}

let located: Promise<Product> | undefined
let emptyHome: Promise<Scratch> | undefined

/**
 * Finds what to run: the checkout, or a copy of it when the lab's user cannot read the checkout (below /root).
 * Done once in a process.
 */
export function product(): Promise<Product> {
  located ??= locate()
  return located
}

/** Runs pgrecall to its end. A failure is a result and not an exception, except that it could not be started. */
export async function pgrecall(args: string[], options: RunOptions = {}): Promise<RunResult> {
  return resultOf((await startPgrecall(args, options)).process)
}

/** Waits for what `startPgrecall` started. */
export async function resultOf(process: RunningPgrecall): Promise<RunResult> {
  const { exitCode, signal, stdout, stderr, shortMessage } = await process
  if (exitCode === undefined && signal === undefined) throw new Error(shortMessage)
  return { exitCode, signal, stdout: stdout ?? '', stderr: stderr ?? '' }
}

export type RunningPgrecall = Awaited<ReturnType<typeof startPgrecall>>['process']

/** Starts pgrecall. @returns the running `process` of execa, in an object since it is itself a promise */
export async function startPgrecall(args: string[], options: RunOptions = {}) {
  const { launcher } = await product()
  const home = options.home ?? (await anEmptyHome()).path
  const process = execa(launcher, args, {
    ...(options.user === 'self' ? {} : asLabUser),
    cwd: options.cwd ?? home,
    env: cleanEnvironment(home, options.env),
    extendEnv: false,
    reject: false,
    stdin: 'pipe',
    stdout: options.output ?? 'pipe',
    stderr: options.output ?? 'pipe',
    input: options.input ?? '',
    timeout: options.timeoutMs ?? 120_000,
    ...(options.signal ? { cancelSignal: options.signal } : {}),
  })
  return { process }
}

function anEmptyHome(): Promise<Scratch> {
  emptyHome ??= Scratch.create('home')
  return emptyHome
}

async function locate(): Promise<Product> {
  if (labUserCanRun(CHECKOUT)) return { launcher: join(CHECKOUT, 'bin/pgrecall'), stage: undefined }
  const stage = await Scratch.create('stage')
  for (const part of ['bin', 'dist', 'package.json']) {
    await cp(join(CHECKOUT, part), join(stage.path, part), { recursive: true })
  }
  // The launcher looks here for its Node; the one that runs us is new enough.
  const bin = join(stage.path, 'node_modules/.bin')
  await mkdir(bin, { recursive: true })
  await linkOrCopy(process.execPath, join(bin, 'node'))
  // Not the linked Node: its mode is the original's too.
  await execa('chmod', [
    '-R',
    'a+rX',
    ...['bin', 'dist', 'package.json'].map((part) => join(stage.path, part)),
  ])
  await execa('chmod', ['a+rx', join(stage.path, 'node_modules'), bin])
  if (!labUserCanRun(stage.path)) {
    throw new Error(`the user ${labUser?.name} can run pgrecall neither in ${CHECKOUT} nor in ${stage.path}`)
  }
  return { launcher: join(stage.path, 'bin/pgrecall'), stage }
}

/** Whether the lab's user may run the launcher, read what it loads, and run the Node that it finds. */
function labUserCanRun(root: string): boolean {
  if (!labUser) return true
  const script = `
    test -x "$1/bin/pgrecall" && test -d "$1/dist" || exit 1
    for file in "$1"/package.json "$1"/dist/*; do test -r "$file" || exit 1; done
    test -x "$1/node_modules/.bin/node" || test -x "$2"`
  const args = ['-c', script, 'sh', root, process.execPath]
  return spawnSync('sh', args, { ...asLabUser, cwd: '/', stdio: 'ignore' }).status === 0
}

async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    await link(from, to)
  } catch {
    await copyFile(from, to, constants.COPYFILE_FICLONE)
  }
}
