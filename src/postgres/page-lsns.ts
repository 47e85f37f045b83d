import type { Lsn } from './lsn.ts'

/** The version of the page layout since 8.3; it shares two bytes with the page's size. */
const LAYOUT_VERSION = 4

/**
 * No record ends before this position: before it is the first page's header. `initdb` writes it into the pages of the
 * catalogs. What is below it says nothing of when a page changed: 0 is a page that is new, or only extended, and 1 is
 * what the build of a GiST index leaves for a while.
 * @see src/backend/access/transam/xloginsert.c: XLogInsert; src/include/access/gist.h: GistBuildLSN
 */
const FIRST_RECORD = 40

/**
 * Finds the pages that may have changed since a position in the WAL, by the LSN that each carries of the last record
 * that changed it. It counts as changed where the LSN is at or past the position, or none that a record ever had, and
 * where the header is not that of a page, since then nobody knows.
 *
 * Changes without a record do not show, and need not: hint bits can be lost. This does not hold for the free space
 * and the visibility map.
 *
 * @param bytes whole pages, one behind the other
 * @param pageBytes the cluster's `block_size`
 * @param since where the backup began that has the earlier state of these pages
 * @param onChanged is called in ascending order with the index of a page, counted from the first one in `bytes`
 * @see src/include/storage/bufpage.h: PageHeaderData
 */
export function changedPages(
  bytes: Buffer,
  pageBytes: number,
  since: Lsn,
  onChanged: (index: number) => void,
): void {
  // As two halves: an LSN as a bigint costs more than the rest of the scan.
  const sinceHigh = Number(since >> 32n)
  const sinceLow = Number(since & 0xffffffffn)
  const sizeAndVersion = pageBytes + LAYOUT_VERSION
  const pages = Math.floor(bytes.length / pageBytes)
  for (let index = 0, at = 0; index < pages; index++, at += pageBytes) {
    const high = bytes.readUInt32LE(at)
    const low = bytes.readUInt32LE(at + 4)
    const isBefore = high < sinceHigh || (high === sinceHigh && low < sinceLow)
    const isOfRecord = high > 0 || low >= FIRST_RECORD
    if (!isBefore || !isOfRecord || bytes.readUInt16LE(at + 18) !== sizeAndVersion) onChanged(index)
  }
}
