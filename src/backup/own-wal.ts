import { PgrecallError } from '../errors.ts'
import type { BackupEnds } from '../postgres/low-level-backup.ts'
import type { ClusterFacts } from '../postgres/server.ts'
import { numberOf, parseWalFile, segmentName } from '../postgres/wal-file.ts'
import { copyGroups } from './copy-pool.ts'
import type { BackupRun } from './method.ts'
import type { StoredShard } from './shard.ts'
import { SourceList } from './source-list.ts'

/**
 * Puts the WAL from start to stop into the backup, out of the server's own `pg_wal`, where the slot has kept it.
 * @throws PgrecallError `failed` when the server removed some of it all the same
 */
export async function copyOwnWal(
  run: BackupRun,
  facts: ClusterFacts,
  { timeline, start, stop }: Pick<BackupEnds, 'timeline' | 'start' | 'stop'>,
): Promise<StoredShard[]> {
  const numbered = (name: string) => {
    const file = parseWalFile(name)
    if (file?.kind !== 'segment') throw new TypeError(`${name} is no WAL segment`)
    return numberOf(file, facts.walSegmentBytes)
  }
  const items = new SourceList()
  for (let number = numbered(start.walFile); number <= numbered(stop.walFile); number++) {
    const name = segmentName(timeline, number, facts.walSegmentBytes)
    items.addFiles('pg_wal', [{ name, size: facts.walSegmentBytes }])
  }
  const { shards, vanished } = await copyGroups([{ name: 'wal', root: facts.dataDirectory, items }], {
    store: run.store,
    codec: run.request.codec,
    jobs: 1,
    task: 'Copying WAL',
    ...(run.request.maxRate !== undefined && { maxRate: run.request.maxRate }),
    events: run.events,
    signal: run.signal,
  })
  if (vanished.length > 0) {
    throw new PgrecallError('failed', `the server removed WAL that the backup needs (${vanished[0]})`, {
      hint: 'raise max_slot_wal_keep_size, or take the backup at a quieter time',
    })
  }
  return shards
}
