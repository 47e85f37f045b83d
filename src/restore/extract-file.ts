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

export interface FileSinkOptions {
  owner: { uid: number; gid: number } | undefined
  /** Whether long runs of zeros become holes. */
  sparse: boolean
  /** Hears of bytes as they are written; may throw to stop. */
  onBytes: (count: number) => void
  /** The file is whole. @param sha256 of its content, hexadecimal */
  onEnd: (sha256: string) => void
}

/** Writes one new file as its bytes arrive, and hashes them. An existing file, or a link in its place, is never written through. */
export class FileSink implements MemberSink {
  readonly #member: TarMember
  readonly #options: FileSinkOptions
  readonly #file: number
  #sum: ReturnType<typeof createHash> | undefined
  #sha256: string | undefined
  #position = 0
  /** Where the file ends, as what was written into it tells. */
  #writtenTo = 0

  constructor(path: string, member: TarMember, options: FileSinkOptions) {
    this.#member = member
    this.#options = options
    this.#file = openSync(fsPath(path), NEW_FILE, NEW_FILE_MODE)
  }

  write(bytes: Buffer): void {
    this.#options.onBytes(bytes.length)
    if (bytes.length === this.#member.size) this.#sha256 = hash('sha256', bytes)
    else {
      this.#sum ??= createHash('sha256')
      this.#sum.update(bytes)
    }
    this.#writeAroundHoles(bytes)
    this.#position += bytes.length
  }

  end(): void {
    const { mode, mtime, size } = this.#member
    const { owner, onEnd } = this.#options
    if (this.#writtenTo < size) ftruncateSync(this.#file, size)
    if (owner) fchownSync(this.#file, owner.uid, owner.gid)
    if ((mode & 0o777) !== NEW_FILE_MODE) fchmodSync(this.#file, mode & 0o777)
    futimesSync(this.#file, mtime, mtime)
    closeSync(this.#file)
    onEnd(this.#sha256 ?? (this.#sum ?? createHash('sha256')).digest('hex'))
  }

  #writeAroundHoles(bytes: Buffer): void {
    let from = 0
    if (this.#options.sparse) {
      const toAligned = (HOLE_BYTES - (this.#position % HOLE_BYTES)) % HOLE_BYTES
      for (let at = toAligned; at + HOLE_BYTES <= bytes.length; at += HOLE_BYTES) {
        if (bytes[at] !== 0 || ZEROS.compare(bytes, at, at + HOLE_BYTES) !== 0) continue
        this.#write(bytes, from, at)
        from = at + HOLE_BYTES
      }
    }
    this.#write(bytes, from, bytes.length)
  }

  #write(bytes: Buffer, from: number, to: number): void {
    for (let at = from; at < to; ) at += writeSync(this.#file, bytes, at, to - at, this.#position + at)
    if (to > from) this.#writtenTo = this.#position + to
  }
}
