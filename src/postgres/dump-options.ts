import { PgrecallError } from '../errors.ts'

interface OwnOptions {
  /** What is set by us, decides where the dump goes, or makes the program do something else; the names of all of them. */
  long: string[]
  short: string
  /** Letters that take a value: what follows them in the same argument is that. */
  withValue: string
}

const COMMON = ['file', 'dbname', 'host', 'port', 'username', 'password', 'no-password', 'lock-wait-timeout']
const INSTEAD = ['help', 'version']

/** @see src/bin/pg_dump: the calls of getopt_long in pg_dump.c and pg_dumpall.c */
const OWN: Record<'pg_dump' | 'pg_dumpall', OwnOptions> = {
  pg_dump: {
    long: [...COMMON, ...INSTEAD, 'encoding', 'format', 'jobs', 'snapshot', 'compress', 'no-sync'],
    short: 'EfFdjZhpUwWV?',
    withValue: 'deEfFhjnNpStTUZ',
  },
  pg_dumpall: {
    long: [...COMMON, ...INSTEAD, 'database', 'format', 'globals-only', 'no-role-passwords'],
    short: 'fFdlhpUwWVg?',
    withValue: 'dEfFhlpSU',
  },
}

/**
 * Checks options that are passed through to a program: each has to be one argument, so that no part of it can be read as
 * the name of a database; and none may be one of ours.
 * @throws PgrecallError `usage`
 */
export function refuseOwnOptions(program: 'pg_dump' | 'pg_dumpall', extra: string[]): void {
  for (const option of extra) {
    const complaint = complaintAbout(option, OWN[program])
    if (complaint === undefined) continue
    throw new PgrecallError('usage', `"${option}" cannot be passed to ${program}: ${complaint[0]}`, {
      hint: complaint[1],
    })
  }
}

function complaintAbout(option: string, own: OwnOptions): [what: string, hint: string] | undefined {
  if (!/^-[^-]|^--[a-z]/.test(option)) {
    return ['it is not an option', 'write an option and its value as one: --schema=sales, not --schema sales']
  }
  if (!isOurs(option, own)) return undefined
  return ['pgrecall sets it itself', 'use the options of pgrecall, or its configuration']
}

function isOurs(option: string, { long, short, withValue }: OwnOptions): boolean {
  const name = /^--([^=]*)/.exec(option)?.[1]
  // The programs take a long name that was cut short for the whole one.
  if (name !== undefined) return long.some((whole) => whole.startsWith(name))
  for (const letter of option.slice(1)) {
    if (short.includes(letter)) return true
    if (withValue.includes(letter)) return false
  }
  return false
}
