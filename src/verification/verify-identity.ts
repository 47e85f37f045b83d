import { requireRepository } from '../catalog/identity.ts'
import { identityKey, REPOSITORY_MARKER } from '../catalog/layout.ts'
import type { Repository } from '../catalog/repository.ts'
import { readObject } from '../storage/storage.ts'
import type { FoundDamage } from './damage.ts'
import { faultOfJson } from './repair.ts'

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
  const note = (
    key: string,
    place: FoundDamage['place'],
    bytes: Buffer | undefined,
    facts: readonly string[],
  ) => {
    const reason = faultOfJson(bytes) ?? lacking(bytes!, facts)
    if (reason !== undefined) found.push({ key, place, reason })
  }
  note(REPOSITORY_MARKER, { kind: 'marker' }, marker, ['id'])
  if (identity)
    note(identityKey(cluster), { kind: 'identity' }, identity, ['systemIdentifier', 'walSegmentBytes'])
  else if (await holdsAnything(repository, cluster))
    note(identityKey(cluster), { kind: 'identity' }, undefined, [])
  return found
}

function lacking(bytes: Buffer, facts: readonly string[]): string | undefined {
  const stored = JSON.parse(bytes.toString('utf8')) as Record<string, unknown>
  const missing = facts.find((fact) => stored[fact] === undefined)
  return missing === undefined ? undefined : `it does not say "${missing}"`
}

/** Backups or WAL, of whom nobody knows whose they are. */
async function holdsAnything({ storage }: Repository, cluster: string): Promise<boolean> {
  for await (const folder of storage.folders(`${cluster}/`))
    if (folder === 'backups' || folder === 'wal') return true
  return false
}
