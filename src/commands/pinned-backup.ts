import { distance } from 'fastest-levenshtein'
import { newestBackup } from '../catalog/catalog.ts'
import { requireRepository } from '../catalog/identity.ts'
import { backupsPrefix, isBackupId } from '../catalog/layout.ts'
import { PgrecallError } from '../errors.ts'
import type { CommandContext } from './context.ts'

/** So many of those are named that may have been meant. */
const NAMED = 3

/**
 * The id of the backup that is meant; `latest` is the newest of all repositories, of either kind.
 * @throws PgrecallError `absent` for what cannot be an id
 */
export async function meantBackup(
  asked: string,
  cluster: string,
  { repositories, signal, events }: Pick<CommandContext, 'repositories' | 'signal' | 'events'>,
): Promise<string> {
  if (asked !== 'latest') {
    if (isBackupId(asked)) return asked
    throw await unknownBackup(asked, cluster, { repositories })
  }
  const newest: string[] = []
  for (const { name, storage } of repositories()) {
    const id = await newestBackup(storage, cluster).catch((error: unknown) => {
      signal.throwIfAborted()
      if (!(error instanceof PgrecallError)) throw error
      events.emit('warning', { text: `repository "${name}": ${error.message}` })
      return undefined
    })
    if (id !== undefined) newest.push(id)
  }
  const latest = newest.toSorted().at(-1)
  if (latest !== undefined) return latest
  for (const { storage } of repositories()) await requireRepository(storage)
  throw new PgrecallError('absent', `cluster "${cluster}" has no backup yet`, {
    hint: 'take one with "pgrecall backup"',
  })
}

/** What is said of an id that no repository has, with those that are most like it. */
export async function unknownBackup(
  asked: string,
  cluster: string,
  { repositories }: Pick<CommandContext, 'repositories'>,
): Promise<PgrecallError> {
  const ids = new Set<string>()
  for (const { storage } of repositories()) {
    // A folder that is not mounted has no backup either.
    await requireRepository(storage)
    for await (const id of storage.folders(backupsPrefix(cluster))) if (isBackupId(id)) ids.add(id)
  }
  const nearest = [...ids]
    .map((id) => ({ id, far: distance(asked, id) }))
    .toSorted((a, b) => a.far - b.far)
    .slice(0, NAMED)
    .map(({ id }) => id)
  const meant = nearest.length === 0 ? '' : `did you mean ${nearest.join(', ')}? `
  return new PgrecallError('absent', `there is no backup "${asked}"`, {
    hint: `${meant}"pgrecall list" shows the backups that there are`,
  })
}
