import type { BackupOutcome } from '../backup/outcome.ts'
import { exitCodeOf, PgrecallError, reasonOf } from '../errors.ts'

type AnyOutcome = BackupOutcome<{ storedBytes: number }>

/** What a required repository failed with is the result, although the others have the backup; 0 where none did. */
export function failureCodeOf({ failures }: AnyOutcome): number {
  const failure = failures.find(({ required }) => required)
  return failure ? exitCodeOf(failure.error) : 0
}

/** For programs: what became of a backup in each repository. */
export function repositoryFacts({ records, failures }: AnyOutcome) {
  return [
    ...records.map(({ repository, record }) => ({
      name: repository,
      result: 'stored',
      storedBytes: record.storedBytes,
    })),
    ...failures.map(({ repository, required, error }) => ({
      name: repository,
      result: 'failed',
      required,
      kind: error instanceof PgrecallError ? error.kind : 'internal',
      reason: reasonOf(error),
    })),
  ]
}

/** The same for people; nothing where there is one repository. */
export function repositoryLines({ records, failures }: AnyOutcome): string[] {
  const lines: string[] = []
  if (records.length + failures.length > 1)
    lines.push(`It is in ${records.map(({ repository }) => `"${repository}"`).join(' and ')}.`)
  for (const { repository, required, error } of failures) {
    const what = required ? 'It is NOT in' : 'It is not in the optional repository'
    lines.push(`${what} "${repository}": ${reasonOf(error)}`)
  }
  return lines
}
