import { createHash, hash } from 'node:crypto'
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  ftruncateSync,
  futimesSync,
  openSync,
  writeSync,
} from 'node:fs'
import { fsPath } from '../archive/file-name.ts'
import type { MemberSink, TarMember } from '../archive/tar.ts'

/** Runs of zeros from this length on, where they begin at a multiple of it, take no space on disk. */
export const HOLE_BYTES = 32 * 1024
const ZEROS = Buffer.alloc(HOLE_BYTES)
const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW
const NEW_FILE_MODE = 0o600

/** What a file is to be beside its content. */
export type FileFacts = Pick<TarMember, 'size' | 'mode' | 'mtime'>

export interface FileRules {
  owner: { uid: number; gid: number } | undefined
  /** Whether long runs of zeros become holes. */
  sparse: boolean
}

/** Writes one new file, from its beginning on. An existing file, or a link in its place, is never written through. */
export class NewFile {
  readonly #rules: FileRules
  readonly #file: number
  #position = 0
  /** Where the file ends, as what was written into it tells. */
  #writtenTo = 0
  /** Bytes that were written, without holes. */
  writtenBytes = 0

  constructor(path: string, rules: FileRules) {
    this.#rules = rules
    this.#file = openSync(fsPath(path), NEW_FILE, NEW_FILE_MODE)
  }

  write(bytes: Buffer): void {
    let from = 0
    if (this.#rules.sparse) {
      const toAligned = (HOLE_BYTES - (this.#position % HOLE_BYTES)) % HOLE_BYTES
      for (let at = toAligned; at + HOLE_BYTES <= bytes.length; at += HOLE_BYTES) {
        if (bytes[at] !== 0 || ZEROS.compare(bytes, at, at + HOLE_BYTES) !== 0) continue
        this.#write(bytes, from, at)
        from = at + HOLE_BYTES
      }
    }
    this.#write(bytes, from, bytes.length)
    this.#position += bytes.length
  }

  end({ size, mode, mtime }: FileFacts): void {
    const { owner } = this.#rules
    if (this.#writtenTo < size) ftruncateSync(this.#file, size)
    if (owner) fchownSync(this.#file, owner.uid, owner.gid)
    if ((mode & 0o777) !== NEW_FILE_MODE) fchmodSync(this.#file, mode & 0o777)
    futimesSync(this.#file, mtime, mtime)
    closeSync(this.#file)
  }

  #write(bytes: Buffer, from: number, to: number): void {
    for (let at = from; at < to; ) at += writeSync(this.#file, bytes, at, to - at, this.#position + at)
    if (to > from) this.#writtenTo = this.#position + to
    this.writtenBytes += to - from
  }
}

export interface FileSinkOptions extends FileRules {
  /** Hears of bytes as they are written; may throw to stop. */
  onBytes: (count: number) => void
  /** The file is whole. @param sha256 of its content, hexadecimal */
  onEnd: (sha256: string) => void
}

/** Writes one new file as its bytes arrive, and hashes them. */
export class FileSink implements MemberSink {
  readonly #member: TarMember
  readonly #options: FileSinkOptions
  readonly #file: NewFile
  #sum: ReturnType<typeof createHash> | undefined
  #sha256: string | undefined

  constructor(path: string, member: TarMember, options: FileSinkOptions) {
    this.#member = member
    this.#options = options
    this.#file = new NewFile(path, options)
  }

  write(bytes: Buffer): void {
    this.#options.onBytes(bytes.length)
    if (bytes.length === this.#member.size) this.#sha256 = hash('sha256', bytes)
    else {
      this.#sum ??= createHash('sha256')
      this.#sum.update(bytes)
    }
    this.#file.write(bytes)
  }

  end(): void {
    this.#file.end(this.#member)
    this.#options.onEnd(this.#sha256 ?? (this.#sum ?? createHash('sha256')).digest('hex'))
  }
}
