import { createHash } from 'node:crypto'
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  futimesSync,
  mkdirSync,
  openSync,
  writeSync,
} from 'node:fs'
import { open } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { decode, methodOf } from '../archive/codec.ts'
import { fsPath } from '../archive/file-name.ts'
import { type MemberSink, type TarMember, TarReader } from '../archive/tar.ts'
import { PgrecallError, reasonOf, systemCode } from '../errors.ts'
import { openStorage } from '../storage/open.ts'
import type { StorageAddress } from '../storage/storage.ts'
import { type Carried, carry } from '../threads/carried-error.ts'
import { requireSafeMember } from './safe-path.ts'

/** What an extracting thread is started with. */
export interface ExtractWorkerData {
  address: StorageAddress
  /** Whose the files are to be, where we may give them away. */
  owner: { uid: number; gid: number } | undefined
  /** Shared counters: plain bytes written, files done, and whether to stop. */
  counters: BigInt64Array<SharedArrayBuffer>
}

export const COUNTER = { bytes: 0, files: 1, stop: 2 } as const

/** One shard to unpack. */
export interface ExtractJob {
  key: string
  name: string
  /** Of the stored bytes. */
  bytes: number
  sha256: string
  /** The folder that the members' paths are relative to. */
  root: string
  /** Members that are written under another name, so that they take effect only later. */
  renamed: Record<string, string>
  /** Folders below the root through which no member may go: links to elsewhere. */
  closed: string[]
}

export interface ExtractedFile {
  path: string
  size: number
  sha256: string
}

export type ExtractMessage =
  | { kind: 'next' }
  | { kind: 'done'; name: string; files: ExtractedFile[]; folders: string[] }
  | { kind: 'failed'; error: Carried }

async function extract(port: MessagePort, data: ExtractWorkerData): Promise<void> {
  const next = () =>
    new Promise<ExtractJob | undefined>((resolve) => {
      port.once('message', resolve)
      port.postMessage({ kind: 'next' } satisfies ExtractMessage)
    })
  for (let job = await next(); job; job = await next()) {
    const unpacked = await unpack(job, data)
    await syncFiles(unpacked.files.map((file) => join(job!.root, job!.renamed[file.path] ?? file.path)))
    port.postMessage({ kind: 'done', name: job.name, ...unpacked } satisfies ExtractMessage)
  }
}

/** Unpacks one shard and checks its stored bytes on the way. */
async function unpack(
  job: ExtractJob,
  data: ExtractWorkerData,
): Promise<{ files: ExtractedFile[]; folders: string[] }> {
  const storage = openStorage(data.address)
  const files: ExtractedFile[] = []
  const folders = new Set<string>()
  const sum = createHash('sha256')
  let stored = 0
  const observed = async function* (chunks: AsyncIterable<Buffer>) {
    for await (const chunk of chunks) {
      sum.update(chunk)
      stored += chunk.length
      yield chunk
    }
  }
  const reader = new TarReader((member) => {
    requireSafeMember(member, job.closed)
    if (member.type === 'directory') {
      makeFolder(job.root, member.path, folders, data, member.mode)
      return undefined
    }
    makeFolder(job.root, dirname(member.path), folders, data)
    return new FileSink(member, job, data, files)
  })
  const chunks = await storage.get(job.key)
  if (!chunks) throw damaged(job, 'it is missing from the repository')
  try {
    for await (const plain of decode(methodOf(job.name), observed(chunks))) reader.push(plain)
    reader.finish()
  } catch (error) {
    if (error instanceof PgrecallError) throw error
    if (systemCode(error) === 'EEXIST')
      throw damaged(job, 'it holds a file that another shard, or it itself, holds too')
    if (systemCode(error)?.startsWith('E') && 'syscall' in (error as object)) throw cannotWrite(job, error)
    throw damaged(job, reasonOf(error), error)
  }
  if (stored !== job.bytes || sum.digest('hex') !== job.sha256) {
    throw damaged(job, 'its bytes are not those that were stored')
  }
  return { files, folders: [...folders] }
}

/** Writes one file as its bytes arrive, and hashes them. */
class FileSink implements MemberSink {
  readonly #member: TarMember
  readonly #file: number
  readonly #sum = createHash('sha256')
  readonly #data: ExtractWorkerData
  readonly #files: ExtractedFile[]

  constructor(member: TarMember, job: ExtractJob, data: ExtractWorkerData, files: ExtractedFile[]) {
    this.#member = member
    this.#data = data
    this.#files = files
    const path = join(job.root, job.renamed[member.path] ?? member.path)
    // An existing file, or a link in its place, is never written through.
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW
    this.#file = openSync(fsPath(path), flags, 0o600)
  }

  write(bytes: Buffer): void {
    if (Atomics.load(this.#data.counters, COUNTER.stop) !== 0n)
      throw new PgrecallError('interrupted', 'the restore was stopped')
    this.#sum.update(bytes)
    for (let at = 0; at < bytes.length; ) at += writeSync(this.#file, bytes, at, bytes.length - at)
    Atomics.add(this.#data.counters, COUNTER.bytes, BigInt(bytes.length))
  }

  end(): void {
    const { mode, mtime, path, size } = this.#member
    const owner = this.#data.owner
    if (owner) fchownSync(this.#file, owner.uid, owner.gid)
    fchmodSync(this.#file, mode & 0o777)
    futimesSync(this.#file, mtime, mtime)
    closeSync(this.#file)
    this.#files.push({ path, size, sha256: this.#sum.digest('hex') })
    Atomics.add(this.#data.counters, COUNTER.files, 1n)
  }
}

function makeFolder(
  root: string,
  path: string,
  made: Set<string>,
  data: ExtractWorkerData,
  mode = 0o700,
): void {
  if (path === '.' || made.has(path)) return
  makeFolder(root, dirname(path), made, data)
  made.add(path)
  const full = fsPath(join(root, path))
  try {
    mkdirSync(full, { mode: mode & 0o777 })
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return
    throw error
  }
  if (!data.owner) return
  const handle = openSync(full, constants.O_RDONLY | constants.O_NOFOLLOW)
  fchownSync(handle, data.owner.uid, data.owner.gid)
  closeSync(handle)
}

/** Side by side: the disk orders the writes better than one after another would. */
async function syncFiles(paths: string[]): Promise<void> {
  const queue = paths.values()
  const syncer = async () => {
    for (const path of queue) {
      const handle = await open(fsPath(path), 'r')
      await handle.sync().finally(() => handle.close())
    }
  }
  await Promise.all([syncer(), syncer(), syncer(), syncer()])
}

function damaged(job: ExtractJob, why: string, cause?: unknown): PgrecallError {
  return new PgrecallError('damaged', `object ${job.key} of the backup is damaged: ${why}`, {
    hint: 'restore from another repository or from another backup; what was written so far cannot start a server',
    cause,
  })
}

function cannotWrite(job: ExtractJob, error: unknown): PgrecallError {
  return new PgrecallError('failed', `cannot write below ${job.root}: ${reasonOf(error)}`, {
    hint:
      systemCode(error) === 'ENOSPC'
        ? 'the disk is full; make room and run the same restore again'
        : 'mend this and run the same restore again',
    cause: error,
  })
}

if (parentPort) {
  const port = parentPort
  extract(port, workerData as ExtractWorkerData)
    .catch((error) => port.postMessage({ kind: 'failed', error: carry(error) } satisfies ExtractMessage))
    .finally(() => port.close())
}
