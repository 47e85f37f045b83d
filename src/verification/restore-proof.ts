import type { RestoreErrors } from '../postgres/restore-messages.ts'

/**
 * `restored`: all of it is there. `differs`: something was refused, or is not as it was recorded. `unproven`: that may be the
 * fault of this host or of what was chosen at the backup, so it says nothing of the backup.
 */
export type Verdict = 'restored' | 'differs' | 'unproven'

/** What came of loading a part of a backup into a scratch server. */
export interface ProvenPart {
  verdict: Verdict
  /** Statements that the server refused; a failure that ended it is one. */
  errors: number
  /** What the first of them were, and what is not as it was recorded. */
  faults: string[]
  /** Why that may be no fault of the backup. */
  excuses: string[]
}

export interface ProvenDatabase extends ProvenPart {
  name: string
  /** As they were counted afterwards, without those of extensions. */
  tables: number
  rows: number
  /** What may well be otherwise, or could not be compared. */
  remarks: string[]
}

/** That a backup can be loaded, or what hinders it. */
export interface RestoreProof {
  verdict: Verdict
  /** PostgreSQL's version of the scratch server; undefined where none was started. */
  server: string | undefined
  tookMs: number
  /** Whether rows were compared with sums of when the backup was taken. */
  isCompared: boolean
  /** Roles, tablespaces, and what is no database's; of a script, all of it. */
  cluster: ProvenPart
  databases: ProvenDatabase[]
}

const EXTENSION = 'an extension or a library'

/**
 * What a server refuses because its host lacks something: no fault of the backup. One such thing can be the reason for many
 * other errors of the same database.
 */
const LACKS: [says: RegExp, what: string][] = [
  [
    /extension "[^"]*" (?:is not available|has no installation script)|could not open extension control file|could not access file "|could not load library/,
    EXTENSION,
  ],
  [/shared_preload_libraries/, 'a library that has to be preloaded'],
  [
    /(?:invalid|unrecognized) (?:LC_\w+ )?locale (?:name|settings)|could not create locale|invalid value for parameter "lc_\w+"|collation "pg_catalog\.[^"]*" for encoding "[^"]*" does not exist/,
    'a locale',
  ],
  [
    /could not open collator|ICU is not supported|ICU locale "[^"]*" has unknown|could not convert locale name/,
    'an ICU locale',
  ],
  [
    /requires the server to be built with|invalid value for parameter "default_table_access_method"/,
    'a feature',
  ],
  [/could not open (?:dictionary|stop-word|thesaurus|affix) file/, 'a file of the text search'],
  [/No space left on device|Disk quota exceeded|ENOSPC|EDQUOT/i, 'room'],
  [/out of (?:shared )?memory/, 'memory'],
  [/could not connect to server "|could not establish connection/, 'another server, which is asked for rows'],
]

/** What the host lacks, as an error of the server tells it; undefined where it says nothing of that. Pure. */
export function lackIn(error: string): string | undefined {
  const { message, command } = partsOf(error)
  const what = command.startsWith('CREATE EXTENSION')
    ? EXTENSION
    : LACKS.find(([says]) => says.test(message))?.[1]
  return what === undefined ? undefined : `this host lacks ${what}: ${saidIn(error)}`
}

/** Without who told it. */
const saidIn = (error: string) => error.replace(/^.*?(?:ERROR|FATAL): +/, '')

/** What was complained of, and the statement, in which anything may stand. */
function partsOf(error: string): { message: string; command: string } {
  const [message = '', ...command] = error.split('Command was: ')
  return { message, command: command.join('') }
}

const NO_ROLE = /(?:role|tablespace) "[^"]*" does not exist/i
/** From 16 on, of a role that the bootstrap superuser has made a member. @see src/backend/commands/user.c */
const OTHER_GRANTOR = /permission denied to grant privileges as role/

/**
 * @param refused what the server refused
 * @param differences what is not as it was recorded
 * @param excuses why any of that may be no fault of the backup. Pure.
 */
export function provenPart(
  { count, samples }: RestoreErrors,
  differences: readonly string[],
  excuses: readonly string[],
): ProvenPart {
  const more = count - samples.length
  const faults = [...samples, ...(more > 0 ? [`and ${more} more that were refused`] : []), ...differences]
  const isGood = faults.length === 0
  return {
    verdict: isGood ? 'restored' : excuses.length > 0 ? 'unproven' : 'differs',
    errors: count,
    faults,
    excuses: isGood ? [] : [...excuses],
  }
}

/** What is wrong with the backup, a sentence each; not what this host or the choice at the backup may be the reason for. Pure. */
export function faultsIn({ cluster, databases }: RestoreProof): string[] {
  const parts = [
    { where: 'what belongs to no database', ...cluster },
    ...databases.map((database) => ({ where: `database "${database.name}"`, ...database })),
  ]
  return parts
    .filter(({ verdict }) => verdict === 'differs')
    .flatMap(({ where, faults }) => faults.map((fault) => `restored, ${where}: ${fault}`))
}

/** Of all parts. Pure. */
export function verdictOf(parts: readonly Pick<ProvenPart, 'verdict'>[]): Verdict {
  const worst = (['differs', 'unproven'] as const).find((each) =>
    parts.some(({ verdict }) => verdict === each),
  )
  return worst ?? 'restored'
}

/** What of a backup, and of the server that it is loaded into, may be the reason for errors. */
export interface Circumstances {
  hasGlobals: boolean
  /** Whether only parts of the databases are in it. */
  isPartial: boolean
  /** Whether the record says who the bootstrap superuser was. */
  knowsSuperuser: boolean
  /** Major versions of the server that was dumped, and of the scratch server. */
  dumped: number
  scratch: number
}

/**
 * Why errors may be no fault of the backup. Pure.
 * @param errors what the server said when it refused something: where that is nothing, nothing is excused
 */
export function excusesIn(errors: readonly string[], circumstances: Circumstances): string[] {
  const { hasGlobals, isPartial, knowsSuperuser, dumped, scratch } = circumstances
  const first = (says: RegExp) => errors.find((error) => says.test(partsOf(error).message))
  const missing = hasGlobals ? undefined : first(NO_ROLE)
  const grantor = knowsSuperuser ? undefined : first(OTHER_GRANTOR)
  const isRefused = errors.length > 0
  return [
    ...new Set(errors.flatMap((text) => lackIn(text) ?? [])),
    ...(missing === undefined ? [] : [`the backup has no roles and tablespaces: ${saidIn(missing)}`]),
    ...(grantor === undefined
      ? []
      : [`the backup does not say who the bootstrap superuser was: ${saidIn(grantor)}`]),
    ...(isRefused && isPartial
      ? ['the backup has only what was chosen, and what that depends on may be missing']
      : []),
    ...(isRefused && scratch > dumped
      ? [`the scratch server is of PostgreSQL ${scratch}, which may refuse what ${dumped} took`]
      : []),
  ]
}
