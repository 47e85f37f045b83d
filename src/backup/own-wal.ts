import { join } from 'node:path'
import type { Codec } from '../archive/codec.ts'
import type { Repository } from '../catalog/repository.ts'
import { segmentNumberOf } from '../catalog/wal-ranges.ts'
import { PgrecallError } from '../errors.ts'
import type { Events } from '../events.ts'
import type { BackupStart, BackupStop } from '../postgres/low-level-backup.ts'
import type { ServerFacts } from '../postgres/server.ts'
import { segmentName } from '../postgres/wal-file.ts'
import { copyGroups } from './copy-pool.ts'
import type { SourceGroup } from './scan.ts'
import type { StoredShard } from './shard.ts'

/**
 * Puts the WAL from start to stop into the backup, out of the server's own `pg_wal`, where the slot has kept it.
 * @throws PgrecallError `failed` when the server removed some of it all the same
 */
export async function copyOwnWal(
  backup: { folder: string; codec: Codec; facts: ServerFacts; start: BackupStart; stop: BackupStop },
  context: { repository: Repository; events: Events; signal: AbortSignal },
): Promise<StoredShard[]> {
  const { facts, start, stop } = backup
  const first = segmentNumberOf(start.walFile, facts.walSegmentBytes)
  const last = segmentNumberOf(stop.walFile, facts.walSegmentBytes)
  const items = Array.from({ length: Number(last - first) + 1 }, (_, index) => ({
    path: join('pg_wal', segmentName(start.timeline, first + BigInt(index), facts.walSegmentBytes)),
    size: facts.walSegmentBytes,
  }))
  const group: SourceGroup = {
    name: 'wal',
    root: facts.dataDirectory,
    items,
    bytes: items.length * facts.walSegmentBytes,
  }
  const { shards, vanished } = await copyGroups([group], {
    storage: context.repository.storage,
    folder: backup.folder,
    codec: backup.codec,
    jobs: 1,
    task: 'Copying WAL',
    events: context.events,
    signal: context.signal,
  })
  if (vanished.length > 0) {
    throw new PgrecallError('failed', `the server removed WAL that the backup needs (${vanished[0]})`, {
      hint: 'raise max_slot_wal_keep_size, or take the backup at a quieter time',
    })
  }
  return shards
}
