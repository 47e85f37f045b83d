import { homedir } from 'node:os'
import { execa } from 'execa'
import { PgrecallError } from '../errors.ts'

/**
 * Runs a program to its end, without a shell.
 * @param argv the program and its arguments
 * @param options `signal` asks the program to end when it is aborted. Only for what may take long: a program that is
 *   not interrupted leaves nothing half done.
 * @throws PgrecallError `refused` when there is no such program, `failed` with its last words when it fails; the
 *   signal's reason when that was the cause
 */
export type Run = (argv: readonly string[], options?: { signal?: AbortSignal }) => Promise<{ stdout: string }>

/** Where volume managers live: the PATH of cron jobs and of services often lacks them. */
const SYSTEM_FOLDERS = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin']

const LAST_LINES = 3

/**
 * The real runner. Programs get an environment of their own: English messages, and none of our secrets.
 * @param path the PATH to look in first, in the form of the variable
 */
export function programRunner(path = ''): Run {
  const folders = [...path.split(':'), ...SYSTEM_FOLDERS].filter((folder) => folder.startsWith('/'))
  const env = { PATH: [...new Set(folders)].join(':'), LC_ALL: 'C', HOME: homedir() }
  return async ([program, ...args], { signal } = {}) => {
    signal?.throwIfAborted()
    const child = execa(program!, args, {
      env,
      extendEnv: false,
      cwd: '/',
      stdin: 'ignore',
      reject: false,
      // In a session of its own: Ctrl-C at the terminal is for us, and must not end a removal.
      detached: true,
    })
    const end = () => endGroup(child.pid)
    signal?.addEventListener('abort', end, { once: true })
    const result = await child
    signal?.removeEventListener('abort', end)
    if (!result.failed) return { stdout: result.stdout }
    signal?.throwIfAborted()
    throw failureOf(program!, args, result)
  }
}

/** With the programs that it has started itself. One that runs as another user, by sudo, is waited for. */
function endGroup(pid: number | undefined): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGTERM')
  } catch {
    // It has ended, or is not ours to end.
  }
}

function failureOf(
  program: string,
  args: string[],
  result: {
    code?: string | undefined
    exitCode?: number | undefined
    signal?: string | undefined
    stderr: string
  },
): PgrecallError {
  if (result.code === 'ENOENT' || result.code === 'EACCES') {
    return new PgrecallError('refused', `the program ${program} is not installed, or may not be run`, {
      hint: 'install it, or choose another provider in backup.snapshot',
    })
  }
  const how = result.signal ? `was ended by ${result.signal}` : `failed with exit code ${result.exitCode}`
  const words = result.stderr
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .slice(-LAST_LINES)
    .join('; ')
  const command = [program, ...args].join(' ')
  return new PgrecallError('failed', `"${command}" ${how}${words ? `: ${words}` : ''}`, {
    hint: hintFor(words),
  })
}

const RIGHTS =
  /permission denied|not permitted|not privileged|password is required|must be root|only root|not allowed/i

function hintFor(words: string): string {
  return RIGHTS.test(words)
    ? 'it needs more rights: docs/snapshots.md has the lines for sudo, and backup.snapshot.asRoot puts sudo in front'
    : 'docs/snapshots.md says what the provider needs'
}
