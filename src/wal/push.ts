import { readFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { type ClusterIdentity, claimIdentity, requireRepository } from '../catalog/identity.ts'
import { walKey } from '../catalog/layout.ts'
import type { Repository } from '../catalog/repository.ts'
import { PgrecallError, reasonOf, systemCode } from '../errors.ts'
import { readControlFile } from '../postgres/pg-control.ts'
import { parseWalFile, type WalFile } from '../postgres/wal-file.ts'
import { describeSegmentMismatch, readSegmentHeader } from '../postgres/wal-page.ts'
import { readObject } from '../storage/storage.ts'
import { encodeWalFile, HEAD_READ_BYTES, MAX_WAL_BYTES, readWalHead } from './stored-file.ts'

export interface PushRequest {
  /** The file to archive, as PostgreSQL's `%p` gives it, made absolute. */
  path: string
  cluster: string
  repositories: readonly Repository[]
  /** zstd level. */
  level: number
  signal?: AbortSignal
}

export interface PushResult {
  name: string
  bytes: number
  sha256: string
  /** Per repository: `stored` now, or `exists` with the same bytes from an earlier push. */
  repositories: { name: string; result: 'stored' | 'exists' }[]
}

/**
 * Stores one file of `pg_wal` in every repository. When it resolves, the bytes are durable in all of them.
 * @throws PgrecallError `usage` for a file that is no WAL, `conflict` for another cluster's file or when other bytes
 *   are already stored under the name, `repository` when one cannot be written
 * @see https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-ARCHIVING-WAL
 */
export async function pushWalFile(request: PushRequest): Promise<PushResult> {
  const file = requireWalName(request.path)
  const plain = await readWalFile(request.path)
  const identity = requireContent(file, plain) ?? (await identityBeside(request.path))
  const { object, sha256 } = encodeWalFile(plain, request.level)

  const outcomes = await Promise.allSettled(
    request.repositories.map(async (repository) => {
      const options = { mayMakeRepository: false }
      if (identity) await claimIdentity(repository.storage, request.cluster, identity, options)
      else await requireRepository(repository.storage)
      return { name: repository.name, result: await store(repository, request, file, object, sha256) }
    }),
  )
  const failure = outcomes.find((outcome) => outcome.status === 'rejected')
  if (failure) throw failure.reason
  return {
    name: file.name,
    bytes: plain.length,
    sha256,
    repositories: outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : [])),
  }
}

/** One conditional write; only where the name is taken, one small read tells whether by the same bytes. */
async function store(
  { name, storage }: Repository,
  request: PushRequest,
  file: WalFile,
  object: Buffer,
  sha256: string,
): Promise<'stored' | 'exists'> {
  const key = walKey(request.cluster, file.name)
  const options = { ifAbsent: true, ...(request.signal && { signal: request.signal }) }
  if ((await storage.put(key, object, options)) === 'stored') return 'stored'
  const start = await readObject(storage, key, { range: { offset: 0, length: HEAD_READ_BYTES } })
  const head = start && readWalHead(start)
  if (head?.sha256 === sha256) return 'exists'
  throw new PgrecallError(
    head ? 'conflict' : 'damaged',
    head
      ? `${file.name} is already in repository "${name}" with other bytes (SHA-256 ${head.sha256.slice(0, 16)}…, this file has ${sha256.slice(0, 16)}…); it was not overwritten`
      : `${storage.location}/${key} is there, but is not what pgrecall wrote; it was not overwritten`,
    {
      hint: head
        ? 'two servers write into one archive, often after a clone or a failover: give this one a cluster name of its own, or stop the other'
        : 'move the object away and let PostgreSQL archive the segment again',
    },
  )
}

function requireWalName(path: string): WalFile {
  const file = parseWalFile(basename(path))
  if (file) return file
  throw new PgrecallError('usage', `"${path}" is not a file of pg_wal`, {
    hint: `archive_command is: pgrecall wal-push "%p"`,
  })
}

async function readWalFile(path: string): Promise<Buffer> {
  try {
    const bytes = await readFile(path)
    if (bytes.length <= MAX_WAL_BYTES) return bytes
    throw new PgrecallError('usage', `${path} is larger than any WAL file`)
  } catch (error) {
    if (error instanceof PgrecallError) throw error
    throw new PgrecallError('failed', `cannot read ${path}: ${reasonOf(error)}`, {
      hint:
        systemCode(error) === 'ENOENT'
          ? 'the path is relative to the data directory, from where PostgreSQL runs the command'
          : 'run as the user who owns the data directory',
      cause: error,
    })
  }
}

/** Refuses bytes that are not what the name says; gives the identity that the bytes carry. */
function requireContent(file: WalFile, plain: Buffer): ClusterIdentity | undefined {
  if (file.kind !== 'segment' && file.kind !== 'partial') return undefined
  const header = readSegmentHeader(plain)
  const mismatch = describeSegmentMismatch(file, plain)
  if (!header || mismatch) {
    throw new PgrecallError('damaged', `${mismatch}; nothing was stored`, {
      hint: 'only files that PostgreSQL itself hands to archive_command belong into the archive',
    })
  }
  return { systemIdentifier: header.systemIdentifier, walSegmentBytes: header.segmentBytes }
}

/** Histories and backup labels carry no identity; the cluster that they lie in does. */
async function identityBeside(path: string): Promise<ClusterIdentity | undefined> {
  const controlPath = join(dirname(path), '..', 'global', 'pg_control')
  const bytes = await readFile(controlPath).catch(() => undefined)
  const control = bytes && readControlFile(bytes)
  return control && { systemIdentifier: control.systemIdentifier, walSegmentBytes: control.walSegmentBytes }
}
