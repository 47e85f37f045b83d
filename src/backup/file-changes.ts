import type { BlockChanges } from '../postgres/block-changes.ts'
import { formatLsn, lsn } from '../postgres/lsn.ts'
import { type RelationFork, relationFork } from '../postgres/relation-file.ts'
import type { ClusterFacts } from '../postgres/server.ts'
import type { ParentBackup } from './method.ts'
import type { FileFacts } from './parent-files.ts'
import { renewedDatabases } from './renewed-databases.ts'

/** What an incremental backup takes of a relation's file. Plain data, for threads. */
export type FileChange =
  /** These blocks, and all from `limit` on; ascending, counted from the start of the file. */
  | { kind: 'blocks'; blocks: Uint32Array; limit?: number }
  /** The pages whose LSN, as `formatLsn` writes it, is `since` or later. Nothing has to be read of a file that is still `unlessStill`. */
  | { kind: 'pages'; since: string; unlessStill?: FileFacts }

/** Says of each file what has changed since the parent. Asked with a file's group and its path in it. */
export interface ChangeSource {
  /** How the record calls it. */
  name: 'wal-summaries' | 'page-lsns'
  /** `block_size` */
  blockBytes: number
  /** Why it is not the other one. */
  reason?: string
  /**
   * Whether visibility maps are left out of the backup, which the server makes anew with the next VACUUM. A heap page
   * becomes all-visible without a new LSN where neither page checksums nor `wal_log_hints` are on (visibilitymap_set).
   * Then the page that a chain has does not say so, and a map that does would be wrong after the next update.
   */
  leavesOutVisibilityMaps: boolean
  /** @returns undefined for a file that is taken whole */
  of(group: string, path: string): FileChange | undefined
}

/** A file's time says nothing about changes in the same moment, which can be as coarse as a second; after this it does. */
const SETTLED_MS = 2000

/** What the server's summaries of its WAL say, which have the pages that became all-visible. */
export function changesBySummaries(
  { files, record }: ParentBackup,
  { blockBytes }: ClusterFacts,
  changes: BlockChanges,
): ChangeSource {
  return {
    name: 'wal-summaries',
    blockBytes,
    leavesOutVisibilityMaps: record.withoutVisibilityMaps === true,
    of(group, path) {
      const file = candidate(group, path)
      const known = file && files.find(group, path)
      if (!known) return undefined
      const changed = changes.of(file)
      if (changed === 'whole') return undefined
      // Zeros that a file grew by are in no WAL, and below the parent there may be older blocks of these numbers.
      const limit = Math.min(changed.limit ?? Number.POSITIVE_INFINITY, Math.floor(known.size / blockBytes))
      return { kind: 'blocks', blocks: changed.blocks, limit }
    },
  }
}

/**
 * What the pages themselves say: each has the LSN of its last change. A database that was made since is taken whole.
 *
 * A file that still has the size and the time that it had in the parent has not been written since, and is not read. That
 * does not hold where the time is from a copy of another host, which knows whole seconds only, and where the file
 * was written within two seconds before that backup began, as times can be as coarse.
 */
export async function changesByPages(
  { files, record }: ParentBackup,
  facts: ClusterFacts,
  reason: string | undefined,
): Promise<ChangeSource> {
  const { blockBytes, dataChecksums } = facts
  const knowsTimes = record.method === 'files'
  // By the clock of the server's host, as the times of its files are.
  const settledBefore = Date.parse(record.start.time) - SETTLED_MS
  const renewed = await renewedDatabases(facts, settledBefore)
  const since = formatLsn(lsn(record.start.lsn))
  return {
    name: 'page-lsns',
    blockBytes,
    // Whether wal_log_hints was on all the time since the parent is not known.
    leavesOutVisibilityMaps: !dataChecksums,
    ...(reason !== undefined && { reason }),
    of(group, path) {
      const file = candidate(group, path)
      const known = file && files.find(group, path)
      if (!known || renewed.has(file.database)) return undefined
      const isTelling = knowsTimes && known.modifiedMs < settledBefore
      return { kind: 'pages', since, ...(isTelling && { unlessStill: known }) }
    },
  }
}

/**
 * The main fork of a relation. The other forks are small, and nothing tells reliably what has changed in them: the free
 * space map is not in the WAL, and no LSN tells that bits of a visibility map were cleared.
 */
function candidate(group: string, path: string): (RelationFork & { space: number }) | undefined {
  const file = relationFork(path)
  if (file?.fork !== 'main') return undefined
  return { ...file, space: file.space ?? Number(group) }
}
