import { execFileSync } from 'node:child_process'
import { accessSync, constants, readdirSync } from 'node:fs'
import { delimiter, join } from 'node:path'

/** PostgreSQL's programs of one server version. */
export class Programs {
  /** The folder of `postgres` and `initdb`. */
  readonly bin: string
  /** `15.20` */
  readonly version: string
  /** `15` */
  readonly major: number

  /** @throws when there is no server in the folder, or it does not run here */
  constructor(bin: string) {
    this.bin = bin
    const answer = execFileSync(join(bin, 'postgres'), ['--version'], { encoding: 'utf8' })
    const [, version, major] = /\(PostgreSQL\) ((\d+)\S*)/.exec(answer) ?? []
    if (!version) throw new Error(`${join(bin, 'postgres')} --version answered ${JSON.stringify(answer)}`)
    this.version = version
    this.major = Number(major)
  }

  /**
   * The path of a program: the server's own, or of another installation, since a server may come without clients.
   *
   * @throws when no installation has it
   */
  path(name: string): string {
    const path =
      this.own(name) ??
      candidates()
        .map((bin) => join(bin, name))
        .find(isProgram)
    if (path) return path
    throw new Error(`PostgreSQL's program ${name} is not installed`)
  }

  /** The path of a program that fits its own version only, as `pg_waldump`; undefined if the server came without it. */
  own(name: string): string | undefined {
    const path = join(this.bin, name)
    return isProgram(path) ? path : undefined
  }
}

let found: Programs | 'none' | undefined

/**
 * The server that the lab uses: from PGRECALL_TEST_PG_BIN, PG_BIN, the newest of Debian's or the PGDG's folders,
 * `pg_config --bindir`, or PATH. `scripts/setup.sh` looks in the same places.
 *
 * @returns undefined when this machine has none
 */
export function findPrograms(): Programs | undefined {
  if (found === undefined) {
    const bin = candidates().find(
      (folder) => isProgram(join(folder, 'postgres')) && isProgram(join(folder, 'initdb')),
    )
    found = bin ? new Programs(bin) : 'none'
  }
  return found === 'none' ? undefined : found
}

/**
 * For the first line of a test: without a server it is skipped with a message; where CI is set, it fails, because
 * there a test that did not run looks like one that passed.
 *
 * @param context vitest's test context
 */
export function requireServer(context: { skip(note?: string): void }): Programs {
  const programs = findPrograms()
  if (programs) return programs
  const message =
    'no PostgreSQL server found; install one or set PGRECALL_TEST_PG_BIN to the folder of its programs'
  if (!process.env.CI) context.skip(message)
  throw new Error(message)
}

function candidates(): string[] {
  return [
    process.env.PGRECALL_TEST_PG_BIN,
    process.env.PG_BIN,
    ...newestFirst('/usr/lib/postgresql', /^\d+$/),
    ...newestFirst('/usr', /^pgsql-\d+$/),
    binOfPgConfig(),
    ...(process.env.PATH ?? '').split(delimiter),
  ].filter((folder) => folder !== undefined && folder !== '') as string[]
}

function newestFirst(parent: string, pattern: RegExp): string[] {
  try {
    return readdirSync(parent)
      .filter((name) => pattern.test(name))
      .sort((a, b) => b.localeCompare(a, 'en', { numeric: true }))
      .map((name) => join(parent, name, 'bin'))
  } catch {
    return []
  }
}

function binOfPgConfig(): string | undefined {
  try {
    return execFileSync('pg_config', ['--bindir'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim()
  } catch {
    return undefined
  }
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
