import type { BackupRecord } from '../catalog/backup-record.ts'
import type { BackupStart } from '../postgres/low-level-backup.ts'
import { formatLsn, lsn } from '../postgres/lsn.ts'
import type { ClusterFacts, Server } from '../postgres/server.ts'
import { faultOfSummaries } from '../postgres/summary-faults.ts'
import { summariesFor } from '../postgres/wal-summaries.ts'
import { type ChangeSource, changesByPages, changesBySummaries } from './file-changes.ts'
import type { BackupRun } from './method.ts'
import { UnfitParent } from './unfit-parent.ts'

/** As long as the server itself waits for its summariser. */
const SUMMARISER_MS = 60_000
/** The first version that summarises its WAL. */
const SUMMARISES = 17

/**
 * Finds out what tells of changes since the parent, for a backup that has begun: the server's summaries of its WAL
 * where it has them all and can be believed, otherwise the pages themselves.
 * @returns undefined for a full backup
 */
export async function changesSince(
  { parent, events, signal }: BackupRun,
  server: Server,
  facts: ClusterFacts,
  start: BackupStart,
): Promise<ChangeSource | undefined> {
  if (!parent) return undefined
  const { record, history } = parent
  requireBehind(record, start)
  if (facts.majorVersion < SUMMARISES) return changesByPages(parent, facts, undefined)
  const fault = faultOfSummaries(facts.version, 'blocks')
  const found =
    fault !== undefined
      ? { missing: fault }
      : await summariesFor(server, {
          timelineHistory: history,
          from: { lsn: lsn(record.start.lsn), timeline: record.timeline },
          to: { lsn: start.lsn, timeline: start.timeline },
          waitMs: SUMMARISER_MS,
          signal,
        })
  if ('changes' in found) return changesBySummaries(parent, facts, found.changes)
  events.emit('step', { text: `Looking at the LSN of every page: ${found.missing}` })
  return changesByPages(parent, facts, found.missing)
}

/** All that is in the parent has to be before this backup, as its recovery begins here. */
function requireBehind({ id, stop }: BackupRecord, start: BackupStart): void {
  if (lsn(stop.lsn) <= start.lsn) return
  throw new UnfitParent(`${id} ends at ${stop.lsn}, and this backup would begin at ${formatLsn(start.lsn)}`)
}
