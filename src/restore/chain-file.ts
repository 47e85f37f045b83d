import { createHash } from 'node:crypto'
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  ftruncateSync,
  futimesSync,
  openSync,
  readSync,
  type Stats,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { fsPath } from '../archive/file-name.ts'
import { systemCode } from '../errors.ts'
import { type FileFacts, type FileRules, NewFile } from './extract-file.ts'

/** What is compared, and written where it differs. */
const BLOCK_BYTES = 8192
const SCRATCH = Buffer.allocUnsafeSlow(1024 * 1024)
const OLD_FILE = constants.O_RDWR | constants.O_NOFOLLOW

/** Takes a file's content from its beginning on. */
export interface FileTarget {
  write(bytes: Buffer): void
  end(facts: FileFacts): void
  /** Bytes that were written, without holes. */
  readonly writtenBytes: number
}

/** A file where there may be one already, of which what is right is left alone. */
export function changedOrNew(path: string, rules: FileRules): FileTarget {
  const file = openOld(path)
  return file === undefined ? new NewFile(path, rules) : new ChangedFile(file, rules)
}

/**
 * Whether a file has just this content; then its owner and its time are set, where they are others.
 * @param sha256 hexadecimal
 * @param onBytes hears of bytes as they are read; may throw to stop
 */
export function isThere(
  path: string,
  { size, mtime, sha256 }: { size: number; mtime: number; sha256: string },
  { owner }: FileRules,
  onBytes: (count: number) => void,
): boolean {
  const file = openOld(path)
  if (file === undefined) return false
  try {
    const facts = fstatSync(file)
    if (facts.size !== size) return false
    const sum = createHash('sha256')
    for (let at = 0; at < size; ) {
      const read = readSync(file, SCRATCH, 0, Math.min(SCRATCH.length, size - at), at)
      if (read === 0) return false
      sum.update(SCRATCH.subarray(0, read))
      onBytes(read)
      at += read
    }
    if (sum.digest('hex') !== sha256) return false
    setFacts(file, facts, { mode: facts.mode, mtime }, owner)
    return true
  } finally {
    closeSync(file)
  }
}

/** A file of zeros that takes no space, instead of what is there. */
export function writePlaceholder(path: string, facts: FileFacts, rules: FileRules): void {
  const file = openOld(path)
  if (file !== undefined) {
    ftruncateSync(file, 0)
    new ChangedFile(file, rules).end(facts)
  } else new NewFile(path, rules).end(facts)
}

/** Undefined where there is none; one that has other names too is removed, for whoever uses these. */
function openOld(path: string): number | undefined {
  let file: number
  try {
    file = openSync(fsPath(path), OLD_FILE)
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    throw error
  }
  if (fstatSync(file).nlink === 1) return file
  closeSync(file)
  unlinkSync(fsPath(path))
  return undefined
}

/** Writes into a file the blocks that are others than those that are there. */
class ChangedFile implements FileTarget {
  readonly #file: number
  readonly #owner: FileRules['owner']
  #position = 0
  writtenBytes = 0

  constructor(file: number, { owner }: FileRules) {
    this.#file = file
    this.#owner = owner
  }

  write(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at += SCRATCH.length)
      this.#writePiece(bytes.subarray(at, at + SCRATCH.length))
  }

  end(facts: FileFacts): void {
    const found = fstatSync(this.#file)
    if (found.size !== facts.size) ftruncateSync(this.#file, facts.size)
    const isTouched = this.writtenBytes > 0 || found.size !== facts.size
    setFacts(this.#file, isTouched ? undefined : found, facts, this.#owner)
    closeSync(this.#file)
  }

  #writePiece(piece: Buffer): void {
    const there = this.#read(piece.length)
    if (!there.equals(piece)) {
      let same = 0
      for (let at = 0; at < piece.length; at += BLOCK_BYTES) {
        const end = Math.min(at + BLOCK_BYTES, piece.length)
        const differs = piece.compare(there, at, Math.min(end, there.length), at, end) !== 0
        if (differs) continue
        this.#writeAt(piece, same, at)
        same = end
      }
      this.#writeAt(piece, same, piece.length)
    }
    this.#position += piece.length
  }

  #read(count: number): Buffer {
    let read = 0
    while (read < count) {
      const more = readSync(this.#file, SCRATCH, read, count - read, this.#position + read)
      if (more === 0) break
      read += more
    }
    return SCRATCH.subarray(0, read)
  }

  #writeAt(piece: Buffer, from: number, to: number): void {
    for (let at = from; at < to; ) at += writeSync(this.#file, piece, at, to - at, this.#position + at)
    this.writtenBytes += to - from
  }
}

/** @param found as they are; undefined where the time has surely changed */
function setFacts(
  file: number,
  found: Stats | undefined,
  { mode, mtime }: Pick<FileFacts, 'mode' | 'mtime'>,
  owner: FileRules['owner'],
): void {
  const now = found ?? fstatSync(file)
  if (owner && (now.uid !== owner.uid || now.gid !== owner.gid)) fchownSync(file, owner.uid, owner.gid)
  if ((now.mode & 0o777) !== (mode & 0o777)) fchmodSync(file, mode & 0o777)
  if (!found || Math.floor(now.mtimeMs / 1000) !== mtime) futimesSync(file, mtime, mtime)
}
