import { existsSync } from 'node:fs'
import { mkdir, open, readdir, rename, rm, rmdir, stat, truncate, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { PgrecallError, reasonOf, systemCode } from '../errors.ts'
import { parseWalFile, type WalFile } from '../postgres/wal-file.ts'
import { LONG_HEADER_BYTES, readSegmentHeader, type SegmentHeader } from '../postgres/wal-page.ts'

/** A segment in the folder: whole, or `.partial` while it is received. */
export type ReceivedSegment = Extract<WalFile, { kind: 'segment' | 'partial' }>

/** What `pg_receivewal` has left in its folder. */
export interface ReceivedFiles {
  histories: Extract<WalFile, { kind: 'history' }>[]
  /** In the order in which `pg_receivewal` weighs them: the last one says where it goes on. */
  segments: ReceivedSegment[]
}

/** Makes the folder where there is none. Its files hold all data that passes through the server. */
export async function makeReceivingFolder(directory: string): Promise<void> {
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 })
  } catch (error) {
    throw new PgrecallError('config', `cannot make the folder ${directory}: ${reasonOf(error)}`, {
      hint: 'set clusters.<name>.wal.receive.directory to one that this user can write',
      cause: error,
    })
  }
}

/**
 * Holds a folder against a second run: two would remove files under each other. The kernel gives it back when we die.
 * @throws PgrecallError `busy`
 */
export async function holdFolder(directory: string): Promise<AsyncDisposable> {
  const { dev, ino } = await stat(directory)
  const server = createServer()
  try {
    await new Promise<void>((resolve, reject) => {
      // A socket in Linux' abstract namespace: no file, so nothing is left behind.
      server.once('error', reject).listen(`\0pgrecall-receive-${dev}-${ino}`, resolve)
    })
  } catch (error) {
    if (systemCode(error) !== 'EADDRINUSE') return { [Symbol.asyncDispose]: async () => {} }
    throw new PgrecallError('busy', `another wal-receive works in ${directory}`, {
      hint: 'one is enough; a second copy goes into a second repository',
    })
  }
  server.unref()
  return { [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())) }
}

/** @see FindStreamingStart in src/bin/pg_basebackup/pg_receivewal.c, whose order this is */
export async function listReceived(directory: string): Promise<ReceivedFiles> {
  const files = (await readdir(directory)).sort().flatMap((name) => parseWalFile(name) ?? [])
  const rank = ({ name, kind }: WalFile) =>
    `${name.slice(8, 24)}${name.slice(0, 8)}${kind === 'segment' ? 1 : 0}`
  return {
    histories: files.filter((file) => file.kind === 'history'),
    segments: files
      .filter((file) => file.kind === 'segment' || file.kind === 'partial')
      .sort((a, b) => (rank(a) < rank(b) ? -1 : 1)),
  }
}

/** The first page's header; undefined while nothing was received of the segment. */
export async function readReceivedHeader(
  directory: string,
  name: string,
): Promise<SegmentHeader | undefined> {
  await using handle = await open(join(directory, name), 'r')
  const start = Buffer.alloc(LONG_HEADER_BYTES)
  await handle.read(start, 0, start.length, 0)
  return readSegmentHeader(start)
}

/** Where `pg_receivewal` begins with an empty folder is up to it; an empty unfinished segment says it. */
export async function setStart(directory: string, segment: string): Promise<void> {
  await writeFile(join(directory, `${segment}.partial`), '', { mode: 0o600 })
}

/**
 * A segment gets its full size before anything is received of it. One of another size was being made when the machine
 * stopped; `pg_receivewal` would refuse it for ever.
 */
export async function mendUnfinished(
  directory: string,
  segment: ReceivedSegment,
  segmentBytes: number,
): Promise<void> {
  const path = join(directory, segment.name)
  const { size } = await stat(path)
  if (segment.kind === 'partial' && size !== 0 && size !== segmentBytes) await truncate(path, 0)
}

/** Where segments lie until they are stored that `pg_receivewal` is not to go on from. It looks into no folder. */
export const asideFolder = (directory: string) => join(directory, 'aside')

/** Takes all segments out of the way of `pg_receivewal`, so that it begins elsewhere; none is lost, stored or not. */
export async function setAside(directory: string): Promise<void> {
  const { segments } = await listReceived(directory)
  const aside = asideFolder(directory)
  await mkdir(aside, { recursive: true, mode: 0o700 })
  for (const { name } of segments) await rename(join(directory, name), join(aside, name))
}

export async function listAside(directory: string): Promise<ReceivedFiles> {
  const aside = asideFolder(directory)
  return existsSync(aside) ? listReceived(aside) : { histories: [], segments: [] }
}

/** Removes what was set aside and is stored, and the folder with the last of it. */
export async function removeAside(directory: string, names: readonly string[]): Promise<void> {
  const aside = asideFolder(directory)
  await removeReceived(aside, names)
  await rmdir(aside).catch(() => {})
}

export async function removeReceived(directory: string, names: readonly string[]): Promise<void> {
  for (const name of names) await rm(join(directory, name), { force: true })
}
