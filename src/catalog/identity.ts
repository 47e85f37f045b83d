import { randomUUID } from 'node:crypto'
import { PgrecallError } from '../errors.ts'
import { readObject, type Storage } from '../storage/storage.ts'
import { identityKey, REPOSITORY_MARKER } from './layout.ts'

/** The version of the layout that this program reads and writes. */
export const FORMAT = 1

/** Which PostgreSQL cluster a cluster's folder belongs to. Written once, by the first that stores anything. */
export interface ClusterIdentity {
  systemIdentifier: string
  walSegmentBytes: number
}

/**
 * Makes sure that a cluster's folder belongs to this PostgreSQL cluster, and claims it when it belongs to none.
 * @param options a hook may not make a repository, see `requireRepository`
 * @throws PgrecallError `conflict` when it belongs to another one, or the segments have another size: then the names
 *   of WAL files mean other positions than those that are stored
 */
export async function claimIdentity(
  storage: Storage,
  cluster: string,
  identity: ClusterIdentity,
  options: { mayMakeRepository: boolean } = { mayMakeRepository: true },
): Promise<void> {
  let known = await readIdentity(storage, cluster)
  if (!known) {
    if (options.mayMakeRepository) await markRepository(storage)
    else await requireRepository(storage)
    const record = { format: FORMAT, ...identity }
    await storage.put(identityKey(cluster), Buffer.from(`${JSON.stringify(record, undefined, 2)}\n`), {
      ifAbsent: true,
    })
    known = await readIdentity(storage, cluster)
  }
  if (known?.systemIdentifier !== identity.systemIdentifier) {
    throw new PgrecallError(
      'conflict',
      `"${cluster}" in ${storage.location} belongs to the PostgreSQL cluster ${known?.systemIdentifier}, this is ${identity.systemIdentifier}; nothing was stored`,
      {
        hint: 'two clusters cannot share a name: give this one a name of its own under "clusters" (after initdb or pg_upgrade a cluster is a new one)',
      },
    )
  }
  if (known.walSegmentBytes !== identity.walSegmentBytes) {
    throw new PgrecallError(
      'conflict',
      `"${cluster}" in ${storage.location} has WAL segments of ${known.walSegmentBytes} bytes, this server's have ${identity.walSegmentBytes}; nothing was stored`,
      {
        hint: 'after "pg_resetwal --wal-segsize" an archive cannot go on: give the cluster a new name under "clusters"',
      },
    )
  }
}

/**
 * Refuses a place that is no repository. A hook must not make one: a folder that is not mounted looks like a new one,
 * and what is stored below it is hidden when it is mounted again.
 * @throws PgrecallError `repository`
 */
export async function requireRepository(storage: Storage): Promise<void> {
  if (await storage.stat(REPOSITORY_MARKER)) return
  throw new PgrecallError('repository', `${storage.location} is not a repository`, {
    hint: 'is it mounted, and is the path right? Where there is no folder yet, "pgrecall check" and "pgrecall backup" make a new one',
  })
}

/** The identity that a cluster's folder has, or undefined while nothing was stored there. */
export async function readIdentity(storage: Storage, cluster: string): Promise<ClusterIdentity | undefined> {
  const key = identityKey(cluster)
  const bytes = await readObject(storage, key)
  if (!bytes) return undefined
  const record = parseObject(bytes, storage, key)
  requireKnownFormat(record, storage, key)
  const { systemIdentifier, walSegmentBytes } = record
  if (typeof systemIdentifier !== 'string' || typeof walSegmentBytes !== 'number') {
    throw damaged(storage, key)
  }
  return { systemIdentifier, walSegmentBytes }
}

/** Writes the repository's own marker if there is none; refuses a repository of a later format. */
export async function markRepository(storage: Storage): Promise<{ id: string; created: boolean }> {
  const record = { format: FORMAT, id: randomUUID(), created: new Date().toISOString() }
  const result = await storage.put(
    REPOSITORY_MARKER,
    Buffer.from(`${JSON.stringify(record, undefined, 2)}\n`),
    {
      ifAbsent: true,
    },
  )
  const bytes = await readObject(storage, REPOSITORY_MARKER)
  const known = bytes ? parseObject(bytes, storage, REPOSITORY_MARKER) : record
  requireKnownFormat(known, storage, REPOSITORY_MARKER)
  return { id: String(known.id), created: result === 'stored' }
}

function parseObject(bytes: Buffer, storage: Storage, key: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'))
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>
  } catch {}
  throw damaged(storage, key)
}

function requireKnownFormat(record: Record<string, unknown>, storage: Storage, key: string): void {
  if (record.format === FORMAT) return
  throw new PgrecallError(
    'repository',
    `${storage.location}/${key} has format ${record.format}, this pgrecall knows ${FORMAT}`,
    {
      hint: 'use the newest pgrecall of all hosts that share the repository',
    },
  )
}

function damaged(storage: Storage, key: string): PgrecallError {
  return new PgrecallError('damaged', `${storage.location}/${key} is not what pgrecall wrote`, {
    hint: 'heal it with "pgrecall verify --repair", or write it anew as docs/format.md shows',
  })
}
