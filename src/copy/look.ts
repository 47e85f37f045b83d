import { type Catalog, loadCatalog, storedBackups } from '../catalog/catalog.ts'
import { walPrefix } from '../catalog/layout.ts'
import type { Repository } from '../catalog/repository.ts'
import { isSealed } from '../catalog/sealed-object.ts'
import { walObjectOf } from '../catalog/wal-object.ts'
import type { StoredBackups, StoredWal, WalDifference } from './plan.ts'

/** The backups that a repository has now. Each record is looked for: one that is only believed to be there would never be copied. */
export async function storedBackupsIn(
  { name, storage }: Repository,
  cluster: string,
  now: Date,
): Promise<StoredBackups & Pick<Catalog, 'backups' | 'logical' | 'damaged'>> {
  const known = await loadCatalog(storage, cluster, { believingWalAt: now })
  return { repository: name, timelines: known.wal, ...(await storedBackups(storage, cluster, known)) }
}

/**
 * Lists all WAL in both. Left out is what is not WAL yet, or never became any: segments that are being received, and the
 * notes of what was given up.
 */
export async function compareWal(
  source: Repository,
  destination: Repository,
  cluster: string,
  signal: AbortSignal,
): Promise<WalDifference> {
  const held = new Set<string>()
  for await (const { file } of archivedFiles(destination, cluster, signal)) held.add(file.name)
  const missing: StoredWal[] = []
  const common = new Map<number, StoredWal>()
  for await (const found of archivedFiles(source, cluster, signal)) {
    if (!held.has(found.file.name)) missing.push(found)
    else if (found.file.kind === 'segment') common.set(found.file.timeline, found)
  }
  return { held, missing, common: [...common.values()] }
}

/** Each file once, also where both of its forms are there. */
async function* archivedFiles(
  { storage }: Repository,
  cluster: string,
  signal: AbortSignal,
): AsyncGenerator<StoredWal> {
  let last: string | undefined
  for await (const { key, bytes } of storage.list(walPrefix(cluster), { signal })) {
    const file = walObjectOf(cluster, key)
    if (!file || file.kind === 'receiving' || file.kind === 'dropped' || file.name === last) continue
    last = file.name
    yield { file, key, form: isSealed(key) ? 'sealed' : 'plain', bytes }
  }
}
