import { openSnapshots } from '../../src/snapshot/open.ts'
import type { SnapshotOptions } from '../../src/snapshot/options.ts'
import { programRunner, type Run } from '../../src/snapshot/run.ts'

export const NAME = 'pgrecall-0123abcd-20261121T120000Z-full'
export const PREFIX = 'pgrecall-0123abcd-'

/** Real snapshots; `pg_wal` counts as empty, as in a backup. */
export function snapshotsOf(options: SnapshotOptions, run: Run = programRunner()) {
  return openSnapshots(options, { run, isEmptied: (path) => path === 'pg_wal' })
}

/** A signal that nobody aborts. */
export const patience = () => new AbortController().signal
