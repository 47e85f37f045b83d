import { constants } from 'node:fs'
import { type FileHandle, open, readdir, readFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { ClusterIdentity } from '../catalog/identity.ts'
import { PgrecallError, reasonOf, systemCode } from '../errors.ts'
import { readControlFile } from '../postgres/pg-control.ts'
import { parseWalFile, type WalFile } from '../postgres/wal-file.ts'
import { describeSegmentMismatch, LONG_HEADER_BYTES, readSegmentHeader } from '../postgres/wal-page.ts'
import { MAX_WAL_BYTES } from './stored-file.ts'

const NEWLINE = 0x0a

/** A file of `pg_wal` as it was read to be archived. */
export interface WalSource {
  file: WalFile
  plain: Buffer
  /** The cluster that it comes from, where that can be told. */
  identity: ClusterIdentity | undefined
  /** When it was changed last, nanoseconds since 1970. */
  changedAtNs: bigint
}

/**
 * Reads a file that is to be archived, and refuses bytes that are not what its name says.
 * @param buffer memory to read into, where it is large enough
 * @throws PgrecallError `usage` for a file that is no WAL, `damaged` for wrong bytes, `failed` when it cannot be read
 */
export async function readWalSource(path: string, buffer?: Buffer): Promise<WalSource> {
  const file = requireWalName(path)
  const { plain, changedAtNs } = await readWhole(path, buffer)
  const identity = requireContent(file, plain) ?? (await identityBeside(path))
  return { file, plain, identity, changedAtNs }
}

function requireWalName(path: string): WalFile {
  const file = parseWalFile(basename(path))
  if (file) return file
  throw new PgrecallError('usage', `"${path}" is not a file of pg_wal`, {
    hint: `archive_command is: pgrecall wal-push "%p"`,
  })
}

async function readWhole(path: string, buffer: Buffer | undefined) {
  try {
    // Opening a pipe would wait for somebody to write into it.
    await using handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
    const before = await handle.stat({ bigint: true })
    if (!before.isFile()) throw new PgrecallError('usage', `${path} is not a file`)
    const bytes = Number(before.size)
    if (bytes > MAX_WAL_BYTES) throw new PgrecallError('usage', `${path} is larger than any WAL file`)
    const plain = await fill(
      handle,
      buffer && buffer.length >= bytes ? buffer.subarray(0, bytes) : Buffer.allocUnsafe(bytes),
    )
    const after = await handle.stat({ bigint: true })
    if (before.mtimeNs !== after.mtimeNs || plain.length !== bytes) {
      throw new PgrecallError('damaged', `${path} was changed while it was read; nothing was stored`, {
        hint: 'PostgreSQL hands over finished files only; what else writes to it?',
      })
    }
    return { plain, changedAtNs: after.mtimeNs }
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

async function fill(handle: FileHandle, plain: Buffer): Promise<Buffer> {
  let length = 0
  while (length < plain.length) {
    const { bytesRead } = await handle.read(plain, length, plain.length - length, length)
    if (bytesRead === 0) break
    length += bytesRead
  }
  return plain.subarray(0, length)
}

/** Refuses bytes that are not what the name says; gives the identity that the bytes carry. */
function requireContent(file: WalFile, plain: Buffer): ClusterIdentity | undefined {
  if (file.kind === 'history' || file.kind === 'backup') {
    if (plain.at(-1) === NEWLINE) return undefined
    throw new PgrecallError(
      'damaged',
      `${file.name} does not end as PostgreSQL ends it; nothing was stored`,
      {
        hint: 'is it still being copied?',
      },
    )
  }
  const header = readSegmentHeader(plain)
  const mismatch = describeSegmentMismatch(file, plain)
  if (!header || mismatch) {
    throw new PgrecallError('damaged', `${mismatch}; nothing was stored`, {
      hint: 'only files that PostgreSQL itself hands to archive_command belong into the archive',
    })
  }
  return { systemIdentifier: header.systemIdentifier, walSegmentBytes: header.segmentBytes }
}

/** Histories and backup labels carry no identity; the cluster that they lie in does, or a segment beside them. */
async function identityBeside(path: string): Promise<ClusterIdentity | undefined> {
  const folder = dirname(path)
  const bytes = await readFile(join(folder, '..', 'global', 'pg_control')).catch(() => undefined)
  const control = bytes && readControlFile(bytes)
  if (control) return { systemIdentifier: control.systemIdentifier, walSegmentBytes: control.walSegmentBytes }
  const names = await readdir(folder).catch(() => [])
  const segment = names.find((name) => parseWalFile(name)?.kind === 'segment')
  const header = segment === undefined ? undefined : await headerOf(join(folder, segment))
  return header && { systemIdentifier: header.systemIdentifier, walSegmentBytes: header.segmentBytes }
}

async function headerOf(path: string) {
  const start = Buffer.alloc(LONG_HEADER_BYTES)
  try {
    await using handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
    await handle.read(start, 0, start.length, 0)
    return readSegmentHeader(start)
  } catch {
    return undefined
  }
}
