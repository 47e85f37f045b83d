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
  /** Is told each archive that is damaged, and why. */
  onFault: (key: string, reason: string) => void
}

/**
 * Lets `pg_restore --list` read the table of contents of each archive, and compares it with what was recorded. That an archive
 * has one does not say that it is whole, which its sum does. Of the tar that is an archive of the directory format, the table of
 * contents is the first file, so all that it takes is to read the head of each.
 * @returns of those that were not looked at, why; undefined where all were
 * @throws PgrecallError `repository` when there is no answer
 */
export async function verifyDumps(
  repository: Repository,
  record: LogicalRecord,
  { env, jobs, signal, onFault }: VerifyDumpsOptions,
): Promise<string | undefined> {
  const dumps = record.objects.filter(({ kind }) => kind === 'dump')
  if (dumps.length === 0) return undefined
  const program = await findProgram('pg_restore', record.dumpVersion, env)
  if (!program) return `this host has no pg_restore of PostgreSQL ${record.dumpVersion} or later`
  const unread = await sideBySide(dumps, jobs, async (object) => {
    const key = backupPrefix(record.cluster, record.id) + object.name
    try {
      const reason = await faultOf(repository, record, object, key, program, { env, signal })
      if (reason !== undefined) onFault(key, reason)
    } catch (error) {
      signal.throwIfAborted()
      // No error of ours is one of whoever decompresses.
      const kind = error instanceof PgrecallError ? error.kind : 'damaged'
      if (kind === 'repository') throw error
      // A key that is not here, or a program that was killed or is too old: nothing that the backup can help.
      if (kind !== 'damaged') return reasonOf(error)
      onFault(key, `pg_restore cannot read it: ${reasonOf(error)}`)
    }
    return undefined
  })
  return unread.find((reason) => reason !== undefined)
}

async function faultOf(
  repository: Repository,
  record: LogicalRecord,
  { name, database, archive }: LogicalObject,
  key: string,
  program: Program,
  { env, signal }: { env: Environment; signal: AbortSignal },
): Promise<string | undefined> {
  const stored = await readContent(repository, key, { signal })
  // That it is missing is told by who reads all objects.
  if (!stored) return undefined
  const plain = decode(methodOf(name), stored)
  const isCompressed = record.compressedBy === 'pg_dump' && record.codec !== 'none'
  const listable = archive === 'directory' && isCompressed ? withoutCompression(plain) : plain
  const { entries } = await listArchive(program, env, listable, { signal })
  const recorded = record.databases.find(({ oid }) => oid === database)
  const expected = Object.values(recorded?.contents ?? {}).reduce((sum, count) => sum + count, 0)
  return !recorded || entries.length === expected
    ? undefined
    : `its table of contents has ${entries.length} entries instead of ${expected}`
}

/**
 * Where the head of the first file in a tar, `toc.dat`, names its compression, from 16 on.
 * @see src/bin/pg_dump/pg_backup_archiver.c, WriteHead
 */
const COMPRESSION_AT = 512 + 11

/** The tar of a folder, such that it passes for an archive of the tar format, whose files are never compressed. */
async function* withoutCompression(tar: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let at = 0
  for await (const piece of tar) {
    const index = COMPRESSION_AT - at
    at += piece.length
    if (index >= 0 && index < piece.length) {
      const changed = Buffer.from(piece)
      changed[index] = 0
      yield changed
    } else yield piece
  }
}
