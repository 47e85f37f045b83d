import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseWalFile } from '../postgres/wal-file.ts'
import { describeSegmentMismatch } from '../postgres/wal-page.ts'

/**
 * Whether the data directory itself has a segment, as that of a standalone backup does: PostgreSQL asks the archive
 * first, and takes its own copy when it is told that there is none.
 */
export async function holdsOwnCopy(dataDirectory: string, name: string): Promise<boolean> {
  const file = parseWalFile(name)
  if (file?.kind !== 'segment') return false
  const bytes = await readFile(join(dataDirectory, 'pg_wal', name)).catch(() => undefined)
  return bytes !== undefined && describeSegmentMismatch(file, bytes) === undefined
}
