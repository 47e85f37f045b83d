import { type ErrorKind, PgrecallError, reasonOf } from '../errors.ts'
import type { ProgramEnd } from './program-run.ts'

interface Rule {
  says: RegExp
  /** Holds for the program's own words only: the server may say the same of its data. */
  ofItself?: true
  kind: ErrorKind
  /** @param by who failed, e.g. `pg_dump of "shop"` @param reason the program's complaint, in one line */
  sentence: (by: string, reason: string, words: string) => string
  hint: (words: string) => string
}

const LOG = "look into the server's log for the reason, and run this again"

const DAMAGED: Rule = {
  says: /end of file|not appear to be a valid|too short|corrupt|unexpected (?:data offset flag|section code|block ID|end of)|bad dumpId|unrecognized data block type|found unexpected block ID|could not (?:uncompress|decompress)|could not read from input file|out of range -- perhaps|file offset in dump file|differs from format found|did not find magic string|unsupported version|unrecognized (?:file|archive) format/,
  ofItself: true,
  kind: 'damaged',
  sentence: (by, reason) => `${by} cannot read the archive: ${reason}`,
  hint: () => 'run "pgrecall verify", and restore from another backup or another repository',
}

/** How libpq puts what the server said, in any language: `ERROR:  `, `FEHLER:  `. */
const SERVER_LEVEL = /\p{Lu}{4,}: {2}/u

/** What libpq says when the other side is gone; the third also the server itself. */
const LOSS =
  'server closed the connection|no connection to the server|terminating connection|connection to server was lost|(?:SSL )?connection has been closed|connection not open|could not (?:receive data from|send data to) server'

/**
 * What PostgreSQL's programs complain of. Only their own words and libpq's are in English in any case; the server's may
 * be in another language, and then a rule further down fits, or none.
 * @see src/bin/pg_dump: pg_dump.c, pg_backup_*.c, parallel.c, connectdb.c; src/interfaces/libpq/fe-connect.c
 */
const RULES: Rule[] = [
  {
    says: /^FATAL: |connection to (?:server|database) .*failed|could not (?:connect to (?:database|server)|translate host name)|connection to database failed/,
    kind: 'connection',
    sentence: (by, reason) => `${by} cannot connect: ${reason.replace(/^(?:.*?failed: )?(?:FATAL: +)?/, '')}`,
    hint: connectionHint,
  },
  {
    says: new RegExp(`${LOSS}|FATAL: `),
    kind: 'connection',
    sentence: (by, reason) => `${by} lost the server: ${reason}`,
    hint: () => LOG,
  },
  {
    says: /server version mismatch/,
    kind: 'refused',
    sentence: (by, _reason, words) => {
      const versions = /server version: (\S+).*?; \w+ version: (\S+)/.exec(words)
      return `${by} is older than the server${versions ? `: ${versions[2]}, the server is ${versions[1]}` : ''}`
    },
    hint: () => "install the client programs of the server's version, or put their folder on PATH",
  },
  {
    says: /permission denied for (?:table|relation) pg_authid/,
    kind: 'refused',
    sentence: (by, reason) => `${by} may not read the passwords of the roles: ${reason}`,
    hint: () => "connect as a superuser, or leave the roles' passwords out",
  },
  {
    says: /row-level security policy|row_security/,
    kind: 'refused',
    sentence: (by, reason) => `${by} would leave out rows that a policy hides from the role: ${reason}`,
    hint: () =>
      'connect as a role with BYPASSRLS, or pass --enable-row-security to dump only what the role may see',
  },
  {
    says: /permission denied|must be owner of|must be superuser/,
    kind: 'refused',
    sentence: (by, reason) => `${by} lacks a privilege: ${reason}`,
    hint: () =>
      'to read everything a role needs GRANT pg_read_all_data (14 and later) or has to be a superuser; to restore, it has to own what it changes',
  },
  {
    says: /canceling statement due to (?:statement|lock) timeout|could not obtain lock|uery was: LOCK TABLE/,
    kind: 'failed',
    sentence: (by, reason, words) => `${by} could not lock ${tablesToLock(words)} in time: ${reason}`,
    hint: () =>
      "find who holds the lock: SELECT * FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted; wait for its end, or allow more time",
  },
  {
    says: /no matching \w+(?: \w+)? were found/,
    kind: 'absent',
    sentence: (by, reason) => `${by} found nothing to dump: ${reason}`,
    hint: () => 'correct the pattern: names are folded to lower case unless they are in double quotes',
  },
  {
    says: /(?:snapshot "[^"]*" does not exist|invalid snapshot identifier|could not import the requested snapshot)/,
    kind: 'failed',
    sentence: (by, reason) => `${by} could not use the snapshot: ${reason}`,
    hint: () => 'the session that exported it has ended; run this again',
  },
  {
    says: /unsupported version \([\d.]+\) in file header/,
    kind: 'refused',
    sentence: (by, reason) => `${by} is older than the program that made the archive: ${reason}`,
    hint: () => 'install the client programs of a newer PostgreSQL, or put their folder on PATH',
  },
  {
    says: /compression is not supported by this installation|does not support compression with/,
    kind: 'refused',
    sentence: (by, reason) => `${by} was built without what compresses this archive: ${reason}`,
    hint: () => "use the client programs of the system's packages or of postgresql.org",
  },
  {
    says: /out-of-order restore request/,
    kind: 'refused',
    sentence: (by) => `${by} cannot restore in another order from what streams by`,
    hint: () => 'restore from a file, or keep the order of the archive in the list',
  },
  DAMAGED,
]

/**
 * Why a program failed, as a sentence with a kind.
 * @param by who failed, e.g. `pg_dump of "shop"`
 * @param words all that it said, or the end of it
 * @param end `reading` is for a run in which nothing but an archive has a part: what has no other reason is its damage
 */
export function programFailure(
  by: string,
  words: string,
  end: ProgramEnd & { reading?: boolean },
): PgrecallError {
  const complaint = firstComplaint(words) ?? end.otherwise
  const damaged = end.reading && (end.exitCode !== null || end.crashed) ? DAMAGED : undefined
  const fromServer = SERVER_LEVEL.test(complaint)
  const rule =
    RULES.find(({ says, ofItself }) => says.test(complaint) && !(ofItself && fromServer)) ?? damaged
  const reason = reasonOf(complaint)
  if (rule) {
    return new PgrecallError(rule.kind, rule.sentence(by, reason, complaint), { hint: rule.hint(complaint) })
  }
  // The server's log has more only where it was the server that failed.
  return new PgrecallError('failed', `${by} failed: ${reason}`, fromServer ? { hint: LOG } : {})
}

/**
 * Whether an error means that nothing further can succeed, because the server is gone. The same words behind a "DETAIL:"
 * are about another server, which this one asked.
 */
export const tellsOfLostServer = (complaint: string) =>
  new RegExp(`^(?:[^\\n]*: )?(?:FATAL: +)?(?:${LOSS})|\\n(?:${LOSS})`).test(complaint)

/** The first error with its details, without the names of programs and without what came before. */
function firstComplaint(words: string): string | undefined {
  const [, rest] = /(?:^|\n)(?:[\w.:<>/-]+: )?(?:error|fatal): +(.*)/s.exec(words) ?? []
  if (rest === undefined) return words.trim() || undefined
  // Before 14 details are told as further errors.
  const joined = rest.replaceAll(
    /\n[\w.:<>/-]+: (?:(?:detail|hint): +|error: (?=query was: |Error message from server: |The command was: ))/g,
    '\n',
  )
  return joined.split(/\n[\w.:<>/-]+: (?:error|warning|from TOC|while )/)[0]!.trim()
}

function tablesToLock(words: string): string {
  const tables =
    /LOCK TABLE ([^;]*?) IN ACCESS SHARE MODE/s.exec(words)?.[1] ??
    /lock on relation "(.*?)"/.exec(words)?.[1]
  if (tables === undefined) return 'a table'
  const names = tables.split(', ')
  return names.length === 1
    ? `the table ${names[0]}`
    : `one of ${names.length} tables (${names.slice(0, 5).join(', ')}${names.length > 5 ? '...' : ''})`
}

function connectionHint(words: string): string {
  if (/password/.test(words)) return 'set PGPASSWORD or add a line to ~/.pgpass (mode 0600)'
  if (/no pg_hba\.conf entry|Peer authentication|Ident authentication/.test(words)) {
    return 'let the role in through pg_hba.conf, run as the matching operating system user, or name another with connection.user'
  }
  if (/database ".*" does not exist/s.test(words)) return 'name a database that exists'
  if (/too many (?:clients|connections)|remaining connection slots/.test(words)) {
    return 'the server has no free connection; raise max_connections or close others'
  }
  if (/translate host name/.test(words)) {
    return 'the host name does not resolve; correct "connection" in the configuration'
  }
  return 'is the server running, and do host and port in the configuration (or PGHOST and PGPORT) point to it?'
}
