import type { BackupRecord } from '../catalog/backup-record.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { storeRecord, storeRestoreText } from '../catalog/commit-backup.ts'
import { lockNeeded } from '../catalog/immutability.ts'
import type { Repository } from '../catalog/repository.ts'
import { droppedSince } from '../catalog/wal-ranges.ts'
import type { StoredIn } from './backup-store.ts'
import type { Destinations } from './destinations.ts'
import { draftRecord } from './draft-record.ts'
import type { BackupRun, Taken } from './method.ts'
import type { StoredRecord } from './outcome.ts'

/** What is recorded beside what was taken. */
interface RunFacts {
  method: BackupRecord['method']
  startedAt: Date
  taken: Taken
  /** Of what was looked at before anything was copied. */
  warnings: readonly string[]
}

/**
 * Completes the backup in every repository that has all of it: `RESTORE.txt`, the locks of the store, and `backup.json`, from
 * which on it exists there.
 * @returns the records, in the order of the configuration
 * @throws what the last repository failed with, where none could be completed
 */
export async function commitRun(
  run: BackupRun,
  destinations: Destinations,
  { method, startedAt, taken, warnings }: RunFacts,
  manifest: { stored: StoredIn; clusterBytes: number },
  now: () => Date,
): Promise<StoredRecord<BackupRecord>[]> {
  const { signal, store } = run
  const commit = async (repository: Repository): Promise<BackupRecord> => {
    const { storage, name } = repository
    const { lock, catalog } = destinations.of(repository)
    const all = [...warnings, ...warningOfLostWal(catalog), ...taken.warnings]
    const draft = draftRecord(
      repository,
      run,
      method,
      startedAt,
      { ...taken, warnings: all },
      { object: manifest.stored[name]!, clusterBytes: manifest.clusterBytes },
    )
    const whole = await storeRestoreText(storage, store.folder, draft)
    await lockNeeded(repository, whole, now(), signal)
    await lock.confirm()
    return storeRecord(storage, store.folder, whole, now())
  }
  signal.throwIfAborted()
  const stored = await store.each(commit)
  return Object.entries(stored).map(([repository, record]) => ({ repository, record }))
}

/** No recovery from an earlier backup gets past WAL that was given up. */
function warningOfLostWal({ backups, wal }: Catalog): string[] {
  const lost = droppedSince(wal, backups.at(-1))[0]
  if (!lost) return []
  return [
    `WAL was given up at ${lost.since} (${lost.reason}), so recovery to later moments begins with this backup`,
  ]
}
