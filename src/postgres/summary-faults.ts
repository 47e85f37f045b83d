/**
 * Who reads the WAL summaries: `server` for PostgreSQL's own incremental backup (`pg_basebackup --incremental`);
 * `blocks` for ours, which takes the marks of main forks by SQL, all of a relation from its limit block on, and the
 * free space and visibility maps whole.
 */
export type SummaryUse = 'blocks' | 'server'

/** What happened between an earlier backup and a new one. */
export interface SummarizedRange {
  /** The earlier backup began on another timeline. */
  crossesTimelines: boolean
  /** VACUUM cut a relation, but not to nothing: `BlockChanges.hasCuts`. */
  hasCuts: boolean
}

interface SummaryFault {
  what: string
  /** The first minor release of a major version that is free of it; empty while no release is known to be. */
  fixedIn: Readonly<Record<number, number>>
  /** Whose backups it can make wrong. */
  spoils: readonly SummaryUse[]
  /** It shows only in a range for which this holds. */
  onlyWhen?: keyof SummarizedRange
  sources: readonly string[]
}

/**
 * Known faults that make an incremental backup wrong. Most faults of the summaries concern the visibility map or what
 * the server makes of a limit block, and none of them leaves out the mark of a block of a main fork below the limit:
 * that is why `blocks` is spoiled by none.
 */
const FAULTS: readonly SummaryFault[] = [
  {
    what: 'its WAL summaries miss changes of visibility maps',
    fixedIn: { 17: 11, 18: 6 },
    spoils: ['server'],
    sources: [
      'https://www.postgresql.org/docs/release/17.11/',
      'https://www.postgresql.org/docs/release/18.6/',
      'https://postgr.es/c/7edec8b57',
      'https://postgr.es/c/d0fb1da21',
    ],
  },
  {
    what: 'its incremental backup of a large table that VACUUM has cut cannot be restored',
    fixedIn: { 17: 8, 18: 2 },
    spoils: ['server'],
    sources: [
      'https://www.postgresql.org/docs/release/17.8/',
      'https://www.postgresql.org/docs/release/18.2/',
      'https://postgr.es/c/ad569b54a',
      'https://postgr.es/c/c80b0c9d6',
    ],
  },
  {
    what: 'its incremental backup across a promotion can take up what was cut only in the abandoned WAL',
    fixedIn: {},
    spoils: ['server'],
    onlyWhen: 'crossesTimelines',
    // Committed to 17 and 18 after 17.11 and 18.6; the third was still being discussed.
    sources: [
      'https://www.mail-archive.com/pgsql-committers@lists.postgresql.org/msg50389.html',
      'https://www.mail-archive.com/pgsql-committers@lists.postgresql.org/msg50486.html',
      'https://www.postgresql.org/message-id/attachment/209262/v6-0002-Don-t-apply-truncations-from-WAL-summaries-that-r.patch',
    ],
  },
  {
    what: 'its incremental backup of a relation that was cut and grew again can bring back deleted rows',
    fixedIn: {},
    spoils: ['server'],
    onlyWhen: 'hasCuts',
    // Seen with 17.11 and 18.6: PrepareForIncrementalBackup reads the summaries in the order of the directory, and a
    // limit block makes it forget marks that are younger. The patches are for neighbours of that, which leave out
    // blocks without a mark and bits of the visibility map; no commit of either is known.
    sources: [
      'src/backend/backup/basebackup_incremental.c: PrepareForIncrementalBackup',
      'src/common/blkreftable.c: BlockRefTableSetLimitBlock',
      'https://www.postgresql.org/message-id/attachment/200749/0001-Fix-incremental-backup-of-relations-truncated-and-re.patch',
      'https://www.postgresql.org/message-id/attachment/208202/v2-0001-Fix-stale-visibility-maps-in-incremental-backups-.patch',
    ],
  },
]

/**
 * Why an incremental backup of a server would not be safe, as far as PostgreSQL's release notes and lists tell.
 * @param serverVersionNum 170011 for 17.11; 17 or later
 * @param range what is known of the WAL since the earlier backup; without it, only what always holds is told
 * @returns a sentence; undefined when nothing speaks against it
 */
export function faultOfSummaries(
  serverVersionNum: number,
  use: SummaryUse,
  range?: SummarizedRange,
): string | undefined {
  const major = Math.floor(serverVersionNum / 10_000)
  const minor = serverVersionNum % 10_000
  const fault = FAULTS.find(
    ({ fixedIn, spoils, onlyWhen }) =>
      spoils.includes(use) &&
      hasFault(fixedIn, major, minor) &&
      (onlyWhen === undefined || range?.[onlyWhen]),
  )
  if (!fault) return undefined
  const fixed = fault.fixedIn[major]
  const until = fixed === undefined ? '' : `, until ${major}.${fixed}`
  return `PostgreSQL ${major}.${minor} has a known fault${until}: ${fault.what}`
}

/** A major version that came out after the fix has it from its first release on. */
function hasFault(fixedIn: SummaryFault['fixedIn'], major: number, minor: number): boolean {
  const majors = Object.keys(fixedIn).map(Number)
  if (majors.length === 0) return true
  const fixed = fixedIn[major]
  return fixed === undefined ? major < Math.min(...majors) : minor < fixed
}
