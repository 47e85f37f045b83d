import { closeSync, constants, fchownSync, mkdirSync, openSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { decode, methodOf } from '../archive/codec.ts'
import { fsPath } from '../archive/file-name.ts'
import { type MemberSink, type TarMember, TarReader } from '../archive/tar.ts'
import type { StoredObject } from '../catalog/backup-record.ts'
import { isAsRecorded, ObjectSum } from '../catalog/object-sum.ts'
import { isSealed, type ReadableRepository, readContent } from '../catalog/sealed-object.ts'
import { PgrecallError, reasonOf, systemCode } from '../errors.ts'
import { FileSet, type FileSetFacts } from '../reconstruction/file-set.ts'
import { FileSink } from './extract-file.ts'
import { SYNC_FILES, syncFiles } from './extract-sync.ts'
import { requireSafeMember } from './safe-path.ts'

/** One shard to unpack. */
export interface ExtractJob {
  key: string
  /** As the record has it. */
  object: StoredObject
  /** The folder that the members' paths are relative to. */
  root: string
  /** What stands before a member's path in the manifest: `pg_tblspc/<oid>/` for a tablespace. */
  prefix: string
  /** Members that are written under another name, so that they take effect only later. */
  renamed: Record<string, string>
  /** Folders below the root through which no member may go: links to elsewhere. */
  closed: string[]
  /** WAL is in no manifest, and never has holes: a server that reuses a segment relies on having its space. */
  isWal: boolean
}

export interface ExtractOptions {
  repository: ReadableRepository
  /** Whose the files are to be, where we may give them away. */
  owner: { uid: number; gid: number } | undefined
  /** Whether each file is synced here; otherwise the whole filesystem is, at the end. */
  syncFiles: boolean
  /** Hears of plain bytes as they are written; may throw to stop. */
  onBytes: (count: number) => void
  onFile: () => void
}

export interface ExtractedShard {
  /** The files that must be in the manifest. */
  files: FileSetFacts
  /** Folders that were made or filled, relative to the shard's root. */
  folders: string[]
}

/**
 * Unpacks one shard, checks its stored bytes on the way, and adds up what it held.
 * @throws PgrecallError `damaged` when the bytes are not what they must be, `failed` when they cannot be written
 */
export async function extractShard(job: ExtractJob, options: ExtractOptions): Promise<ExtractedShard> {
  const shard = new ShardFiles(job, options)
  const reader = new TarReader((member) => shard.take(member))
  const { name } = job.object
  const sum = new ObjectSum(isSealed(name))
  try {
    const onStored = (chunk: Buffer) => sum.push(chunk)
    const content = await readContent(options.repository, job.key, { onStored })
    if (!content) throw damaged(job, 'it is missing from the repository')
    for await (const plain of decode(methodOf(name), content)) {
      reader.push(plain)
      if (shard.unsynced.length >= SYNC_FILES) await shard.sync()
    }
    reader.finish()
    await shard.sync()
    if (!isAsRecorded(job.object, sum.end())) throw damaged(job, 'its bytes are not those that were stored')
  } catch (error) {
    throw explained(job, error)
  }
  return { files: shard.files.facts(), folders: [...shard.folders] }
}

/** What one shard puts below its root. */
class ShardFiles {
  readonly files = new FileSet()
  readonly folders = new Set<string>()
  unsynced: string[] = []
  readonly #job: ExtractJob
  readonly #options: ExtractOptions

  constructor(job: ExtractJob, options: ExtractOptions) {
    this.#job = job
    this.#options = options
  }

  take(member: TarMember): MemberSink | undefined {
    requireSafeMember(member, this.#job.closed)
    if (member.type === 'directory') {
      this.#makeFolder(member.path, member.mode)
      return undefined
    }
    this.#makeFolder(dirname(member.path))
    return this.#file(member)
  }

  #file(member: TarMember): MemberSink {
    const { root, renamed, prefix, isWal } = this.#job
    const { owner, syncFiles, onBytes, onFile } = this.#options
    const path = join(root, renamed[member.path] ?? member.path)
    return new FileSink(path, member, {
      owner,
      sparse: !isWal && !member.path.startsWith('pg_wal/'),
      onBytes,
      onEnd: (sha256) => {
        if (!isWal) this.files.add(prefix + member.path, member.size, sha256)
        if (syncFiles) this.unsynced.push(path)
        onFile()
      },
    })
  }

  #makeFolder(path: string, mode = 0o700): void {
    if (path === '.' || this.folders.has(path)) return
    this.#makeFolder(dirname(path))
    this.folders.add(path)
    const full = fsPath(join(this.#job.root, path))
    try {
      mkdirSync(full, { mode: mode & 0o777 })
    } catch (error) {
      if (systemCode(error) === 'EEXIST') return
      throw error
    }
    const { owner } = this.#options
    if (!owner) return
    const handle = openSync(full, constants.O_RDONLY | constants.O_NOFOLLOW)
    fchownSync(handle, owner.uid, owner.gid)
    closeSync(handle)
  }

  async sync(): Promise<void> {
    const paths = this.unsynced
    this.unsynced = []
    await syncFiles(paths)
  }
}

function explained(job: ExtractJob, error: unknown): PgrecallError {
  if (error instanceof PgrecallError) return error
  if (systemCode(error) === 'EEXIST')
    return damaged(job, 'it holds a file that another shard, or it itself, holds too')
  if (systemCode(error)?.startsWith('E') && 'syscall' in (error as object))
    return cannotWrite(job.root, error)
  return damaged(job, reasonOf(error), error)
}

function damaged(job: ExtractJob, why: string, cause?: unknown): PgrecallError {
  return new PgrecallError('damaged', `object ${job.key} of the backup is damaged: ${why}`, {
    hint: 'restore from another repository or from another backup; what was written so far cannot start a server',
    cause,
  })
}

/** A failed system call, as a sentence. @param place what was to be written, or the folder above it */
export function cannotWrite(place: string, error: unknown): PgrecallError {
  return new PgrecallError('failed', `cannot write below ${place}: ${reasonOf(error)}`, {
    hint:
      systemCode(error) === 'ENOSPC'
        ? 'the disk is full; make room and run the same restore again'
        : 'mend this and run the same restore again',
    cause: error,
  })
}
