import pg from 'pg'
import { PgrecallError, reasonOf } from '../errors.ts'

/** data_corrupted: the server's verdict on pages, after all has been sent. */
export const DATA_CORRUPTED = 'XX001'
/** object_not_in_prerequisite_state: as a warning, its summaries of the WAL are not there yet. */
export const SUMMARIES_AWAITED = '55000'
const NOT_IN_PREREQUISITE_STATE = '55000'
const UNDEFINED_FILE = '58P01'

const WHOLE = 'take a whole backup with --type full'
const LOOK_INTO_LOG = "look into the server's log for the reason, and run this again"

/**
 * Why a server takes no incremental backup, and what to do.
 * @see src/backend/backup/basebackup_incremental.c, basebackup.c: parse_basebackup_options, walsummarizer.c
 */
const REFUSALS: { says: RegExp; sentence: string; hint: string }[] = [
  {
    says: /unless WAL summarization is enabled/,
    sentence: 'the server does not summarise its WAL, so it cannot tell what has changed',
    hint: `set summarize_wal = on and reload the server, and ${WHOLE}: the next ones can be incremental`,
  },
  {
    says: /WAL summaries are required/,
    sentence: 'the server has not summarised all WAL since the backup that this one builds upon',
    hint: `${WHOLE}; if summarize_wal was on all the time, raise wal_summary_keep_time, or take backups more often`,
  },
  {
    says: /WAL summarization is not progressing/,
    sentence: 'the server does not get on with the summaries of its WAL',
    hint: `look into the server's log for messages of its WAL summarizer, or ${WHOLE}`,
  },
  {
    says: /found in manifest, but not in this server's history|manifest requires WAL from (?:initial|continuation|non-final)/,
    sentence: "the backup that this one builds upon is not in this server's history",
    hint: `${WHOLE}: the server has gone back to a point before that backup, or was promoted beside it`,
  },
  {
    says: /manifest requires WAL from final timeline/,
    sentence: 'the backup that this one builds upon ends behind the start of this one',
    hint: `on a standby, run CHECKPOINT on its primary and try again when the standby has replayed it, or ${WHOLE}`,
  },
  {
    says: /system identifier in .*manifest is/,
    sentence: 'the backup that this one builds upon is of another cluster',
    hint: `${WHOLE}, under a cluster name of its own if both are backed up`,
  },
  {
    says: /backup manifest|manifest (?:contains|ended|has|checksum)/,
    sentence: 'the server cannot use the manifest of the backup that this one builds upon',
    hint: `run "pgrecall verify", and ${WHOLE}`,
  },
]

/** @param error what ended a session of the replication protocol */
export function sessionError(error: unknown, asked: { isIncremental: boolean }): unknown {
  if (error instanceof PgrecallError) return error
  if (!(error instanceof pg.DatabaseError) || error.severity === 'FATAL') {
    return new PgrecallError('connection', `the server broke the base backup off: ${reasonOf(error)}`, {
      hint: LOOK_INTO_LOG,
      cause: error,
    })
  }
  const told = { ...asked, by: 'the server', reason: reasonOf(error), code: error.code, cause: error }
  return backupError(told)
}

/**
 * A base backup that the server has ended with an error.
 * @param told who speaks; the server's words, in any language; its SQLSTATE, where that is known
 */
export function backupError(told: {
  by: string
  reason: string
  /** All words in which what to do is looked for; the reason when left out. */
  words?: string
  code?: string | undefined
  isIncremental: boolean
  cause?: unknown
}): PgrecallError {
  const { by, reason, words = reason, code, isIncremental, cause } = told
  const refusal = isIncremental ? REFUSALS.find(({ says }) => says.test(words)) : undefined
  if (refusal) {
    const { sentence, hint } = refusal
    return new PgrecallError('failed', `${sentence}: ${reason}`, { hint, cause })
  }
  const hint = serverHint(code, words)
  return new PgrecallError('failed', `${by} could not finish the base backup: ${reason}`, {
    hint: isIncremental ? `${hint}; or ${WHOLE}` : hint,
    cause,
  })
}

function serverHint(code: string | undefined, text: string): string {
  if (text.includes('wal_level') || code === NOT_IN_PREREQUISITE_STATE) {
    return 'wal_level must be "replica" or "logical"; a standby must not be promoted, nor run without full_page_writes, during a backup'
  }
  if (code === UNDEFINED_FILE || /requested WAL segment|WAL file/.test(text)) {
    return 'the server removed WAL that the backup needs: raise wal_keep_size (wal_keep_segments before 13), or leave --standalone to an archive'
  }
  return LOOK_INTO_LOG
}
