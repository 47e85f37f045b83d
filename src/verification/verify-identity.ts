import { requireRepository } from '../catalog/identity.ts'
import { identityKey, REPOSITORY_MARKER } from '../catalog/layout.ts'
import type { Repository } from '../catalog/repository.ts'
import { readObject } from '../storage/storage.ts'
import type { FoundDamage } from './damage.ts'

/**
 * Looks at the two small files that say what all the others are: `pgrecall.json` and `cluster.json`.
 * @throws PgrecallError `repository` where there is neither, so that this may be a folder that is not mounted
 */
export async function verifyIdentity(repository: Repository, cluster: string): Promise<FoundDamage[]> {
  const { storage } = repository
  const [marker, identity] = await Promise.all([
    readObject(storage, REPOSITORY_MARKER),
    readObject(storage, identityKey(cluster)),
  ])
  if (!marker && !identity) await requireRepository(storage)
  const found: FoundDamage[] = []
  const note = (key: string, place: FoundDamage['place'], reason: string | undefined) => {
    if (reason !== undefined) found.push({ key, place, reason })
  }
  note(REPOSITORY_MARKER, { kind: 'marker' }, faultOfMarker(marker))
  if (identity || (await holdsAnything(repository, cluster)))
    note(identityKey(cluster), { kind: 'identity' }, faultOfIdentity(identity))
  return found
}

/** What is wrong with `pgrecall.json`. */
export const faultOfMarker = (bytes: Buffer | undefined) => faultOfJson(bytes, { id: 'string' })

/** The same of `cluster.json`, by itself. */
export const faultOfIdentity = (bytes: Buffer | undefined) =>
  faultOfJson(bytes, { systemIdentifier: 'string', walSegmentBytes: 'number' })

/** @param facts what it has to say, by the types of JavaScript */
function faultOfJson(bytes: Buffer | undefined, facts: Record<string, string>): string | undefined {
  if (!bytes) return 'it is missing'
  try {
    const stored = JSON.parse(bytes.toString('utf8')) as Record<string, unknown>
    const lacking = Object.keys(facts).find((fact) => typeof stored[fact] !== facts[fact])
    return lacking === undefined ? undefined : `it does not say "${lacking}"`
  } catch {
    return 'it is not what pgrecall wrote'
  }
}

/** Backups or WAL, of whom nobody knows whose they are. */
async function holdsAnything({ storage }: Repository, cluster: string): Promise<boolean> {
  for await (const folder of storage.folders(`${cluster}/`))
    if (folder === 'backups' || folder === 'wal') return true
  return false
}
