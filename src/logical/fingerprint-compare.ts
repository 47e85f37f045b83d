import { fingerprintText, type TableFingerprint } from './fingerprint.ts'

/** What is not the same of one table. */
export interface Difference {
  kind:
    | 'missing'
    | 'unexpected'
    /** Another number of rows. */
    | 'rows'
    /** As many rows, but not the same. */
    | 'content'
    /** Sequences belong to no snapshot: on a server at work, the last value can be another a moment later. */
    | 'sequence'
    /** One of both could not be counted. */
    | 'unknown'
  recorded: TableFingerprint | undefined
  found: TableFingerprint | undefined
}

/** @param recorded of a backup @param found where it was restored @returns in the order of both. Pure. */
export function compareFingerprints(
  recorded: readonly TableFingerprint[],
  found: readonly TableFingerprint[],
): Difference[] {
  const byKey = new Map(found.map((each) => [identityOf(each), each]))
  const differences = recorded.flatMap((one): Difference[] => {
    const other = byKey.get(identityOf(one))
    byKey.delete(identityOf(one))
    const kind = differenceOf(one, other)
    return kind === undefined ? [] : [{ kind, recorded: one, found: other }]
  })
  const unexpected = [...byKey.values()].filter(({ kind, rows }) => kind !== 'large objects' || rows !== 0)
  return [
    ...differences,
    ...unexpected.map((other): Difference => ({ kind: 'unexpected', recorded: undefined, found: other })),
  ]
}

/** Two names of which one ends where the other begins are not the same, unlike in an archive's list. */
export const identityOf = ({ kind, schema, name }: TableFingerprint) => JSON.stringify([kind, schema, name])

function differenceOf(
  one: TableFingerprint,
  other: TableFingerprint | undefined,
): Difference['kind'] | undefined {
  if (!other) return one.kind === 'large objects' && one.rows === 0 ? undefined : 'missing'
  if (one.fault !== undefined || other.fault !== undefined) return 'unknown'
  if (one.rows !== other.rows) return 'rows'
  if (one.content !== other.content) return one.kind === 'sequence' ? 'sequence' : 'content'
  return undefined
}

/** A difference for people, in one line. Pure. */
export function differenceText({ kind, recorded, found }: Difference): string {
  const one = (recorded ?? found)!
  const { kind: what } = one
  const which = fingerprintText(one)
  switch (kind) {
    case 'missing':
      return `${which}: not there`
    case 'unexpected':
      return `${which}: not in the backup`
    case 'rows':
      return `${which}: ${found!.rows} instead of ${recorded!.rows}${what === 'large objects' ? '' : ' rows'}`
    case 'content':
      return `${which}: as many, but not the same`
    case 'sequence':
      return `${which}: ${found!.content} instead of ${recorded!.content}`
    case 'unknown':
      return `${which}: not compared, ${recorded?.fault ? 'at the backup' : 'now'} ${recorded?.fault ?? found?.fault}`
  }
}
