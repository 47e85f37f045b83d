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

/**
 * What a server refuses because its host lacks something: no fault of the backup. One such thing can be the reason for many
 * other errors of the same database.
 */
const LACKS: [says: RegExp, what: string][] = [
  [
    /Command was: CREATE EXTENSION|extension "[^"]*" (?:is not available|has no installation script)|could not open extension control file|could not access file "|could not load library/,
    'an extension or a library',
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
  [/No space left on device|Disk quota exceeded/, 'room'],
  [/out of (?:shared )?memory/, 'memory'],
]

/** What the host lacks, as an error of the server tells it; undefined where it says nothing of that. Pure. */
export function lackIn(error: string): string | undefined {
  const what = LACKS.find(([says]) => says.test(error))?.[1]
  return what === undefined ? undefined : `this host lacks ${what}: ${saidIn(error)}`
}

/** Without who told it. */
const saidIn = (error: string) => error.replace(/^.*?(?:ERROR|FATAL): +/, '')

const isOfGlobals = (error: string) => /(?:role|tablespace) "[^"]*" does not exist/i.test(error)

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

/**
 * Why errors may be no fault of the backup.
 * @param errors all that the server said
 * @param backup whether it has roles, and whether only parts of the databases are in it
 */
export function excusesIn(
  errors: readonly string[],
  backup: { hasGlobals: boolean; isPartial: boolean },
): string[] {
  const lacks = errors.flatMap((text) => lackIn(text) ?? [])
  const missing = backup.hasGlobals ? undefined : errors.find(isOfGlobals)
  return [
    ...new Set(lacks),
    ...(missing === undefined ? [] : [`the backup has no roles and tablespaces: ${saidIn(missing)}`]),
    ...(backup.isPartial && errors.length > 0
      ? ['the backup has only what was chosen, and what that depends on may be missing']
      : []),
  ]
}
