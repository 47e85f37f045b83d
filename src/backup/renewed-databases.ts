import { lstatSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { ClusterFacts } from '../postgres/server.ts'

/**
 * The databases whose folder was made at or after a moment. One that is made by copying files, as all are before PostgreSQL 15,
 * has pages with the old LSNs of its template; under an oid that was used before, nothing else tells them from those that
 * were there. `PG_VERSION` is written when a database is made or moved, and never again.
 * @param sinceMs milliseconds since 1970
 * @returns their oids
 * @see src/backend/commands/dbcommands.c
 */
export async function renewedDatabases(
  { dataDirectory, tablespaces, majorVersion, catalogVersion }: ClusterFacts,
  sinceMs: number,
): Promise<Set<number>> {
  const folder = `PG_${majorVersion}_${catalogVersion}`
  const places = [join(dataDirectory, 'base'), ...tablespaces.map(({ location }) => join(location, folder))]
  const renewed = new Set<number>()
  for (const place of places) {
    for (const name of await readdir(place).catch(() => [])) {
      const facts = lstatSync(join(place, name, 'PG_VERSION'), { throwIfNoEntry: false })
      if (facts && facts.mtimeMs >= sinceMs) renewed.add(Number(name))
    }
  }
  return renewed
}
