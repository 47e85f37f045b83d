import { PgrecallError, reasonOf } from '../errors.ts'
import { inDatabase } from '../postgres/in-database.ts'
import type { Server } from '../postgres/server.ts'
import {
  fingerprintKey,
  fingerprintsOf,
  keysOfData,
  keysOfRelations,
  namedOf,
  notFound,
  type TableFingerprint,
} from './fingerprint.ts'
import { compareFingerprints, type Difference, identityOf } from './fingerprint-compare.ts'
import type { RecordedFingerprints } from './fingerprint-object.ts'
import { relationsOf } from './fingerprint-relations.ts'
import type { LinkedEntry } from './restore-entries.ts'
import type { DatabasePlan } from './restore-plan.ts'
import type { RestoreRun } from './restore-run.ts'

/** What of a dump was restored. */
export interface Brought {
  entries: readonly LinkedEntry[]
  /** Whether that is all that there is. */
  isAll: boolean
}

/** How what was restored compares with what was counted in the dump's snapshot. */
export interface Comparison {
  /** How many were compared; large objects one by one. */
  compared: Partial<Record<TableFingerprint['kind'], number>>
  /** What is not there as it was recorded. */
  differences: Difference[]
  /** What may well be so, or could not be compared. */
  remarks: Difference[]
}

/**
 * Counts what a restore has brought into a database, and compares it with what was recorded. By a session of its own, which
 * reads all of it once.
 * @param brought what of the dump is compared
 * @throws PgrecallError `connection`, which says that the database is restored; the signal's reason
 */
export async function compareDatabase(
  run: RestoreRun,
  recorded: RecordedFingerprints,
  plan: DatabasePlan,
  brought: Brought,
): Promise<Comparison> {
  const { source, events, signal } = run
  events.emit('detail', { text: `Comparing what was restored into database "${plan.into}"` })
  try {
    await using session = await source.connect(inDatabase(source.connection, plan.into))
    const keys = keysOfData(brought.entries)
    const before = recorded.of(plan.name).filter((each) => keys.has(fingerprintKey(each)))
    const found = await Array.fromAsync(fingerprintsOf(session, { only: keys, signal }))
    const others = brought.isAll && !plan.allOrNothing ? await othersIn(session, brought) : []
    const lost = notFound(keys, [...before, ...found])
    return comparisonOf([...before, ...lost], [...found.map(foundIn(plan)), ...lost], others)
  } catch (error) {
    const text = `database "${plan.into}" is restored, and could not be compared`
    if (signal.aborted) events.emit('warning', { text })
    signal.throwIfAborted()
    const { kind, hint } = error instanceof PgrecallError ? error : { kind: 'failed' as const }
    throw new PgrecallError(kind, `${text}: ${reasonOf(error)}`, {
      ...(hint !== undefined && { hint }),
      cause: error,
    })
  }
}

/** What is in the dump, and has no line: an archive's list does not tell all names apart. */
function uncounted(
  recorded: readonly TableFingerprint[],
  found: readonly TableFingerprint[],
): TableFingerprint[] {
  const known = new Set(recorded.map(identityOf))
  return found
    .filter((each) => !known.has(identityOf(each)))
    .map(({ rows: _rows, content: _content, ...named }) => ({ ...named, fault: 'it was not counted' }))
}

/** Unlike tables, which are made or in the way, large objects of a database that had some are among those of the dump. */
const foundIn =
  ({ allOrNothing }: DatabasePlan) =>
  (each: TableFingerprint): TableFingerprint =>
    each.kind === 'large objects' && allOrNothing
      ? { kind: each.kind, fault: 'there may be some that were there before' }
      : each

/** What is in a database that was empty, and nothing of the dump; they are not counted. */
async function othersIn(session: Server, { entries }: Brought): Promise<TableFingerprint[]> {
  const keys = new Map([...keysOfRelations(entries), ...keysOfData(entries)])
  return (await relationsOf(session))
    .filter(({ ofExtension }) => !ofExtension)
    .map(namedOf)
    .filter((named) => !keys.has(fingerprintKey(named)))
}

/**
 * Pure. Exported for tests.
 * @param recorded of what was restored @param found the same @param others what is there besides
 */
export function comparisonOf(
  recorded: readonly TableFingerprint[],
  found: readonly TableFingerprint[],
  others: readonly TableFingerprint[],
): Comparison {
  const before = [...recorded, ...uncounted(recorded, found)]
  const all = compareFingerprints(before, [...found, ...others])
  const unknown = new Set(all.filter(({ kind }) => kind === 'unknown').map((each) => each.recorded))
  const compared: Comparison['compared'] = {}
  for (const each of before.filter((one) => !unknown.has(one))) {
    const count = each.kind === 'large objects' ? each.rows! : 1
    compared[each.kind] = (compared[each.kind] ?? 0) + count
  }
  return {
    compared,
    differences: all.filter(isFailure),
    remarks: all.filter((each) => !isFailure(each)),
  }
}

/**
 * Sequences belong to no snapshot. Materialized views are made anew of what the tables hold, and were maybe older than that.
 */
function isFailure({ kind, recorded }: Difference): boolean {
  const holdsRows = recorded?.kind === 'table' || recorded?.kind === 'large objects'
  return kind === 'missing' || ((kind === 'rows' || kind === 'content') && holdsRows)
}
