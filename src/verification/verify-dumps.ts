import { decode, methodOf } from '../archive/codec.ts'
import { backupPrefix } from '../catalog/layout.ts'
import type { LogicalObject, LogicalRecord } from '../catalog/logical-record.ts'
import type { Repository } from '../catalog/repository.ts'
import { readContent } from '../catalog/sealed-object.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import { type Environment, findProgram, type Program } from '../postgres/client-programs.ts'
import { listArchive } from '../postgres/pg-restore.ts'
import { sideBySide } from '../side-by-side.ts'

export interface VerifyDumpsOptions {
  env: Environment
  /** How many archives are looked at side by side. */
  jobs: number
  signal: AbortSignal
  /** Is told each archive that `pg_restore` cannot read, and why. */
  onFault: (key: string, reason: string) => void
}

/**
 * Lets `pg_restore --list` read the table of contents of each archive, and compares it with what was recorded. That an archive
 * has one does not say that it is whole, which its sum does.
 * @returns of those that were not looked at, why; undefined where all were
 * @throws PgrecallError `repository` when there is no answer
 */
export async function verifyDumps(
  repository: Repository,
  record: LogicalRecord,
  { env, jobs, signal, onFault }: VerifyDumpsOptions,
): Promise<string | undefined> {
  const [dumps, folders] = ['custom', 'directory'].map((form) =>
    record.objects.filter(({ kind, archive }) => kind === 'dump' && archive === form),
  )
  const inTars = folders!.length > 0 ? 'those of the directory format lie in a tar' : undefined
  if (dumps!.length === 0) return inTars
  const program = await findProgram('pg_restore', record.dumpVersion, env)
  if (!program) return `this host has no pg_restore of PostgreSQL ${record.dumpVersion} or later`
  const unread = await sideBySide(dumps!, jobs, async (object) => {
    const key = backupPrefix(record.cluster, record.id) + object.name
    try {
      const reason = await faultOf(repository, record, object, key, program, { env, signal })
      if (reason !== undefined) onFault(key, reason)
    } catch (error) {
      signal.throwIfAborted()
      if (error instanceof PgrecallError && error.kind === 'key') return reasonOf(error)
      if (error instanceof PgrecallError && error.kind === 'repository') throw error
      onFault(key, `pg_restore cannot read it: ${reasonOf(error)}`)
    }
    return undefined
  })
  return unread.find((reason) => reason !== undefined) ?? inTars
}

async function faultOf(
  repository: Repository,
  { databases }: LogicalRecord,
  { name, database }: LogicalObject,
  key: string,
  program: Program,
  { env, signal }: { env: Environment; signal: AbortSignal },
): Promise<string | undefined> {
  const stored = await readContent(repository, key, { signal })
  // That it is missing is told by who reads all objects.
  if (!stored) return undefined
  const { entries } = await listArchive(program, env, decode(methodOf(name), stored), { signal })
  const recorded = databases.find(({ oid }) => oid === database)
  const expected = Object.values(recorded?.contents ?? {}).reduce((sum, count) => sum + count, 0)
  return !recorded || entries.length === expected
    ? undefined
    : `its table of contents has ${entries.length} entries instead of ${expected}`
}
