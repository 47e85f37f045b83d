import { closeSync, openSync, readFileSync, readSync } from 'node:fs'
import { relationFork } from '../../src/postgres/relation-file.ts'
import { type DataFiles, isLeftOut, sizeOf } from './data-files.ts'

const PAGE = 8192
const PIECE = 128 * PAGE
/** Two, for all files: to allocate them takes longer than to compare a small file. */
const ONE = Buffer.allocUnsafe(PIECE)
const OTHER = Buffer.allocUnsafe(PIECE)
/** What is told of one comparison, at most. */
const MOST_PROBLEMS = 12

/** Whether the bytes of two copies of a data directory are the same. @returns how they differ, in sentences */
export function differences(expected: DataFiles, actual: DataFiles, what: string): string[] {
  const problems: string[] = []
  for (const [path, place] of expected) {
    const other = actual.get(path)
    if (!other) problems.push(`${path} is in ${what}, and was not restored`)
    else problems.push(...differenceOf(path, readFileSync(place), other, what))
  }
  for (const path of actual.keys()) {
    if (!expected.has(path)) problems.push(`${path} was restored, and is not in ${what}`)
  }
  return shortened(problems)
}

/** @returns where a file's bytes are not those expected; at most one sentence */
export function differenceOf(path: string, expected: Buffer, file: string, what: string): string[] {
  const size = sizeOf(file)
  if (size !== expected.length)
    return [`${path} was restored with ${size} bytes, and has ${expected.length} in ${what}`]
  const wrong: number[] = []
  forEachPiece(file, (piece, at) => {
    if (expected.subarray(at, at + piece.length).equals(piece)) return
    for (let page = 0; page < piece.length; page += PAGE) {
      const one = piece.subarray(page, page + PAGE)
      if (!one.equals(expected.subarray(at + page, at + page + one.length))) wrong.push((at + page) / PAGE)
    }
  })
  return wrong.length === 0 ? [] : [`${path} differs from ${what} in blocks ${runs(wrong)}`]
}

/**
 * Compares what was restored, before a server was started on it, with the files of the living source: a page of a
 * relation may differ only where the source's has a record from after the start of the backup, which the recovery will
 * repeat. Holds where hint bits are logged (`wal_log_hints` or page checksums).
 *
 * @param since the start of the backup, from which on records will be replayed
 * @param quiet whether nothing was written since then; then files cannot have come or gone
 */
export function unlikeSource(
  source: DataFiles,
  restored: DataFiles,
  since: bigint,
  quiet: boolean,
): string[] {
  const problems: string[] = []
  for (const [path, place] of source) {
    if (relationFork(path)?.fork !== 'main' || isLeftOut(source, path)) continue
    const other = restored.get(path)
    if (other) problems.push(...pagesUnlike(path, place, other, since, quiet))
    else if (quiet && sizeOf(place) > 0) problems.push(`${path} of the source was not restored`)
  }
  for (const [path, place] of restored) {
    const isLost = quiet && relationFork(path) !== undefined && !source.has(path)
    if (isLost && sizeOf(place) > 0) problems.push(`${path} was restored, and the source has no such file`)
  }
  return shortened(problems)
}

function pagesUnlike(
  path: string,
  sourceFile: string,
  restoredFile: string,
  since: bigint,
  quiet: boolean,
): string[] {
  const sizes = { source: sizeOf(sourceFile), restored: sizeOf(restoredFile) }
  if (quiet && sizes.source !== sizes.restored)
    return [`${path} was restored with ${sizes.restored} bytes, and the source's has ${sizes.source}`]
  const wrong: string[] = []
  const restored = openSync(restoredFile, 'r')
  try {
    forEachPiece(sourceFile, (theirs, at) => {
      const read = readSync(restored, OTHER, 0, theirs.length, at)
      if (read === theirs.length && theirs.equals(OTHER.subarray(0, read))) return
      for (let page = 0; page + PAGE <= theirs.length; page += PAGE) {
        const one = theirs.subarray(page, page + PAGE)
        const lsn = (BigInt(one.readUInt32LE(0)) << 32n) | BigInt(one.readUInt32LE(4))
        const same = page + PAGE <= read && one.equals(OTHER.subarray(page, page + PAGE))
        // A page that is only zeros yet is one that the relation was just extended by.
        if (same || lsn >= since || (lsn === 0n && page + PAGE > read) || isUnloggedNote(one)) continue
        const has = page + PAGE <= read ? `${hex(OTHER, page)} restored` : 'nothing restored'
        wrong.push(`${(at + page) / PAGE} (page LSN ${hex(theirs, page)}, ${has})`)
      }
    })
  } finally {
    closeSync(restored)
  }
  if (wrong.length === 0) return []
  return [
    `${path} is older than the source's in blocks ${wrong.slice(0, 5).join(', ')}, ${wrong.length} in all`,
  ]
}

/**
 * The first page of an SP-GiST index, in which a server notes without a record where there was space last.
 * @see src/backend/access/spgist/spgutils.c: SpGistUpdateMetaPage; src/include/access/spgist_private.h
 */
function isUnloggedNote(page: Buffer): boolean {
  const [flags, pageId] = [page.readUInt16LE(PAGE - 8), page.readUInt16LE(PAGE - 2)]
  return pageId === 0xff82 && (flags & 1) === 1
}

function hex(bytes: Buffer, at: number): string {
  return `${bytes.readUInt32LE(at).toString(16)}/${bytes.readUInt32LE(at + 4).toString(16)}`.toUpperCase()
}

function forEachPiece(file: string, visit: (piece: Buffer, at: number) => void): void {
  const descriptor = openSync(file, 'r')
  try {
    for (let at = 0; ; ) {
      const read = readSync(descriptor, ONE, 0, PIECE, at)
      if (read === 0) return
      visit(ONE.subarray(0, read), at)
      at += read
    }
  } finally {
    closeSync(descriptor)
  }
}

function runs(numbers: number[]): string {
  const shown = numbers.slice(0, 8).join(', ')
  return numbers.length > 8 ? `${shown} and ${numbers.length - 8} more` : shown
}

function shortened(problems: string[]): string[] {
  if (problems.length <= MOST_PROBLEMS) return problems
  return [...problems.slice(0, MOST_PROBLEMS), `and ${problems.length - MOST_PROBLEMS} more`]
}
