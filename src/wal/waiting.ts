import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { parseWalFile } from '../postgres/wal-file.ts'

/**
 * The names of the files that PostgreSQL wants archived, in the order in which it asks: histories first, then by name.
 * @param dataDirectory absolute
 * @see pgarch_readyXlog in src/backend/postmaster/pgarch.c
 */
export async function waitingFiles(dataDirectory: string): Promise<string[]> {
  const entries = await readdir(join(dataDirectory, 'pg_wal', 'archive_status'))
  return inArchiverOrder(
    entries.filter((entry) => entry.endsWith('.ready')).map((entry) => entry.slice(0, -'.ready'.length)),
  )
}

/** WAL files among the names, histories first, then by name. */
export function inArchiverOrder(names: readonly string[]): string[] {
  const rank = (name: string) => (name.endsWith('.history') ? 0 : 1)
  return names
    .filter((name) => parseWalFile(name) !== undefined)
    .sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1))
}

/**
 * The name of a file that is meant as PostgreSQL's archiver means it: `pg_wal/<name>`, from the data directory.
 * @returns undefined for any other path
 */
export function nameInPgWal(cwd: string, path: string): string | undefined {
  const name = /^pg_wal\/([^/]+)$/.exec(path)?.[1]
  return name !== undefined && existsSync(join(cwd, 'pg_wal', 'archive_status')) ? name : undefined
}
