import type { BackupRecord } from '../catalog/backup-record.ts'
import { PgrecallError } from '../errors.ts'
import { formatLsn, lsn } from '../postgres/lsn.ts'
import type { Evidence, RestoreQuestion } from './question.ts'
import { describeTarget, formatMoment, momentOf } from './target.ts'

/**
 * Refuses a target to which the stored WAL does not lead.
 * @throws PgrecallError `unreachable` with the nearest recoverable moment as the hint
 */
export function requireReachable(question: RestoreQuestion, backup: BackupRecord, evidence: Evidence): void {
  const { target } = question
  const { reach, lastMoment } = evidence
  const gap = reach.gap ? `; ${reach.gap} is missing from the archive` : ''
  if (!backup.standalone && reach.end < lsn(backup.stop.lsn)) {
    throw new PgrecallError(
      'unreachable',
      `backup ${backup.id} cannot be made consistent: its WAL is not all in the archive${gap}`,
      {
        hint: 'choose another backup; "pgrecall list" shows them, "pgrecall catalog rebuild" looks at the archive again',
      },
    )
  }
  const refuse = (why: string) =>
    new PgrecallError('unreachable', `${describeTarget(target)} cannot be reached: ${why}${gap}`, {
      hint: `the last moment that can be recovered from ${backup.id} is ${nearest(backup, evidence)}`,
    })
  switch (target.kind) {
    case 'immediate':
      return
    case 'time': {
      const isCovered =
        lastMoment !== undefined &&
        (question.exclusive ? lastMoment >= target.micros : lastMoment > target.micros)
      if (!isCovered)
        throw refuse(
          'no transaction after it is in the archived WAL, so PostgreSQL could not tell that it got there',
        )
      return
    }
    case 'lsn':
      if ((evidence.lastLsn ?? reach.end) <= target.lsn) throw refuse('the archived WAL ends before it')
      return
    case 'xid':
    case 'name':
      if (evidence.found === undefined) throw refuse('it is not in the archived WAL after the backup')
      return
    case 'end':
      // Whoever asks for the end wants the newest data; and wal-fetch would stop this recovery at the hole.
      if (reach.gap) throw refuse('later WAL is stored behind a hole')
  }
}

/** The last moment that can be had, with the option that leads there: as `--time` it would need a transaction after it. */
function nearest(backup: BackupRecord, { lastMoment, lastTransaction }: Evidence): string {
  if (lastMoment === undefined || lastTransaction === undefined || lastTransaction < lsn(backup.stop.lsn)) {
    return `${formatMoment(momentOf(backup.stop.time))}, the end of the backup itself (--immediate)`
  }
  return `${formatMoment(lastMoment)}: with --lsn ${formatLsn(lastTransaction)}, or by --time what lies before it`
}
