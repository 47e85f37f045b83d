import { closeSync, openSync, readFileSync, readSync, writeSync } from 'node:fs'
import { PageInspector, type PageRules } from '../../src/backup/page-check.ts'
import { lsn } from '../../src/postgres/lsn.ts'

export const PATH = 'base/5/16384'
export const PAGE = 8192
const RULES = { pageBytes: PAGE, blocksPerSegment: 131_072 }
export const START = lsn('0/5000028')
export const STOP = lsn('0/6000100')
export const HOT: PageRules = { ...RULES, startLsn: START }
export const COLD: PageRules = { ...RULES, startLsn: undefined }

interface Copy {
  rules?: PageRules
  path?: string
  /** The same file in the running cluster, when this one is of a snapshot. */
  live?: string
  /** Bytes of each piece; the last one is used for all that follow. Default all at once. */
  pieces?: number[]
  /** Called when a piece was read, and before it is looked at: what the server does meanwhile. */
  meanwhile?: (piece: number, file: number) => void
}

/** Copies a file as a worker does, from an odd place of the buffer. */
export function copy(file: string, { rules = HOT, path = PATH, live, pieces, meanwhile }: Copy = {}) {
  const descriptor = openSync(file, 'r+')
  try {
    const size = readFileSync(file).length
    const inspector = new PageInspector(rules, size + 1000)
    const pages = inspector.begin(path, { file: descriptor, livePath: live })!
    const copied: Buffer[] = []
    for (let at = 0, turn = 0; at < size; turn++) {
      const length = Math.min(pieces?.[Math.min(turn, pieces.length - 1)] ?? size, size - at)
      const piece = inspector.buffer.subarray(513, 513 + length)
      readSync(descriptor, piece, 0, length, at)
      meanwhile?.(turn, descriptor)
      pages.take(piece, at)
      copied.push(Buffer.from(piece))
      at += length
    }
    return { bytes: Buffer.concat(copied), ...pages.end() }
  } finally {
    closeSync(descriptor)
  }
}

/** A page with its second half from elsewhere: what a reader sees in the middle of a write. */
export function torn(page: Buffer): Buffer {
  return Buffer.from(page.map((byte, at) => (at < page.length / 2 ? byte : ~byte)))
}

/** Writes a page into a file. */
export function put(file: string, block: number, page: Buffer): void {
  const descriptor = openSync(file, 'r+')
  writeSync(descriptor, page, 0, page.length, block * PAGE)
  closeSync(descriptor)
}
