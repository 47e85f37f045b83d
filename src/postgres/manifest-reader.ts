import { createHash } from 'node:crypto'

const NEWLINE = 0x0a
/** No line of a manifest comes near: a path has at most 4096 bytes. */
const LONGEST_LINE_BYTES = 1024 * 1024

/** One file's facts as a manifest has them; the algorithm is PostgreSQL's name for it, or undefined for NONE. */
export interface ManifestEntry {
  path: string
  size: number
  algorithm: string | undefined
  checksum: string | undefined
}

/**
 * Reads a manifest that arrives in pieces of any size, in whatever memory one line takes: `push` each piece, then
 * `finish`. PostgreSQL writes, and expects, one file a line. Entries can be believed once `finish` has returned, which
 * checks the manifest's own checksum.
 */
export class ManifestReader {
  readonly #nameFromBytes: (bytes: Buffer) => string
  readonly #onEntry: (entry: ManifestEntry) => void
  readonly #sum = createHash('sha256')
  #rest: Buffer = Buffer.alloc(0)
  #stated: string | undefined

  /** @param nameFromBytes reads an `Encoded-Path` */
  constructor(nameFromBytes: (bytes: Buffer) => string, onEntry: (entry: ManifestEntry) => void) {
    this.#nameFromBytes = nameFromBytes
    this.#onEntry = onEntry
  }

  /** @throws Error when the bytes are no manifest */
  push(piece: Buffer): void {
    const bytes = this.#rest.length > 0 ? Buffer.concat([this.#rest, piece]) : piece
    let at = 0
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, at)) {
      this.#line(bytes.subarray(at, end + 1))
      at = end + 1
    }
    this.#rest = Buffer.from(bytes.subarray(at))
    if (this.#rest.length > LONGEST_LINE_BYTES) throw new Error('the backup manifest has a line without end')
  }

  /** @throws Error when the manifest is not whole, or its checksum does not fit */
  finish(): void {
    if (this.#stated === undefined) throw new Error('the backup manifest has no checksum of its own')
    if (this.#rest.length > 0) throw new Error('the backup manifest goes on after its checksum')
    if (this.#sum.digest('hex') !== this.#stated)
      throw new Error('the backup manifest does not fit its own checksum')
  }

  #line(bytes: Buffer): void {
    if (this.#stated !== undefined) throw new Error('the backup manifest goes on after its checksum')
    const line = bytes.toString('utf8')
    this.#stated = /^"Manifest-Checksum": "([0-9a-f]{64})"\}?\n$/.exec(line)?.[1]
    if (this.#stated !== undefined) return
    this.#sum.update(bytes)
    if (/^\{ "(?:Encoded-)?Path"/.test(line)) this.#onEntry(this.#entry(line.trimEnd()))
  }

  #entry(line: string): ManifestEntry {
    const facts = factsIn(line.endsWith(',') ? line.slice(0, -1) : line)
    const encoded = facts['Encoded-Path']
    return {
      path:
        encoded === undefined ? String(facts.Path) : this.#nameFromBytes(Buffer.from(String(encoded), 'hex')),
      size: Number(facts.Size),
      algorithm: facts['Checksum-Algorithm'] as string | undefined,
      checksum: facts.Checksum as string | undefined,
    }
  }
}

function factsIn(line: string): Record<string, string | number> {
  try {
    return JSON.parse(line) as Record<string, string | number>
  } catch {
    throw new Error('the backup manifest has a line that is no JSON')
  }
}
