import { PgrecallError } from '../errors.ts'
import type { ArchiveEntry, KnownNames } from '../postgres/archive-list.ts'
import { type DumpOptions, pgDumpDirectory } from '../postgres/pg-dump.ts'
import { listArchive } from '../postgres/pg-restore.ts'
import type { LogicalRun } from './logical-run.ts'
import { StagingFolder } from './staging.ts'

/** An archive of the directory format. Disposing removes it. */
export interface DumpFolder extends AsyncDisposable {
  path: string
  entries: ArchiveEntry[]
}

/**
 * Dumps a database into a folder of the place for staging, by several sessions.
 * @param known of the database
 * @throws as `pgDumpDirectory`; `refused` where nothing can be staged, `failed` when the place is full
 */
export async function dumpIntoFolder(
  run: LogicalRun,
  options: DumpOptions,
  known: KnownNames,
): Promise<DumpFolder> {
  const { plan, source, request } = run
  const place = request.staging!
  await using owned = new AsyncDisposableStack()
  const folder = owned.use(await StagingFolder.make(place))
  const dump = { ...options, directory: folder.path, jobs: request.jobs }
  await pgDumpDirectory(plan.programs.dump, source.env, dump).catch((error) => {
    throw isFull(error) ? full(place, options.connection.database, error) : error
  })
  const { signal } = options
  const { entries } = await listArchive(
    plan.programs.restore,
    source.env,
    { file: folder.path },
    { known, signal },
  )
  const kept = owned.move()
  return { path: folder.path, entries, [Symbol.asyncDispose]: () => kept.disposeAsync() }
}

/** The program says what the system said to it. */
const isFull = (error: unknown) =>
  error instanceof Error && /No space left on device|Disk quota exceeded/.test(error.message)

function full(place: string, database: string, cause: unknown): PgrecallError {
  return new PgrecallError('failed', `${place} is full: there is no room for the dump of "${database}"`, {
    hint: 'free some space, name another folder, or leave --staging out: then nothing is staged',
    cause,
  })
}
