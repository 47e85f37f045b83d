import type { Catalog } from '../catalog/catalog.ts'
import type { ClusterIdentity } from '../catalog/identity.ts'
import { backupsPrefix, isBackupId, walPrefix } from '../catalog/layout.ts'
import type { Repository } from '../catalog/repository.ts'
import { walObjectOf } from '../catalog/wal-object.ts'
import { readSegmentHeader } from '../postgres/wal-page.ts'
import { readAnyRecord } from './twin.ts'
import { verifyWalFile } from './verify-wal.ts'

/** How many segments are looked at for one that can be read. */
const MOST_SEGMENTS = 4

/** What all backups say of whose they are is more to be believed than `cluster.json`, one small file without a sum. */
export function systemIdentifierOf({
  systemIdentifier,
  backups,
  logical,
}: Pick<Catalog, 'systemIdentifier' | 'backups' | 'logical'>): string | undefined {
  const said = new Set([...backups, ...logical].map((backup) => backup.systemIdentifier))
  return said.size === 1 ? [...said][0] : systemIdentifier
}

/** Of which clusters, and with segments of which sizes, what is stored says that it is: one each, where all is well. */
export interface OwnIdentity {
  systemIdentifiers: ReadonlySet<string>
  walSegmentBytes: ReadonlySet<number>
}

/**
 * Reads it from the record of each backup, and, where no physical one can be read, from a segment.
 * @throws PgrecallError `repository`
 */
export async function readOwnIdentity(repository: Repository, cluster: string): Promise<OwnIdentity> {
  const systemIdentifiers = new Set<string>()
  const walSegmentBytes = new Set<number>()
  for await (const id of repository.storage.folders(backupsPrefix(cluster))) {
    const record = isBackupId(id)
      ? await readAnyRecord(repository, cluster, id).catch(() => undefined)
      : undefined
    if (record) systemIdentifiers.add(record.systemIdentifier)
    if (record && record.method !== 'logical') walSegmentBytes.add(record.walSegmentBytes)
  }
  const header = walSegmentBytes.size === 0 ? await readAnyHeader(repository, cluster) : undefined
  if (header) {
    systemIdentifiers.add(header.systemIdentifier)
    walSegmentBytes.add(header.segmentBytes)
  }
  return { systemIdentifiers, walSegmentBytes }
}

async function readAnyHeader(repository: Repository, cluster: string) {
  let left = MOST_SEGMENTS
  for await (const { key } of repository.storage.list(walPrefix(cluster))) {
    const file = walObjectOf(cluster, key)
    if (file?.kind !== 'segment') continue
    if (left-- === 0) return undefined
    const { plain, reason } = await verifyWalFile(repository, cluster, file.name)
    const header = plain && reason === undefined ? readSegmentHeader(plain) : undefined
    if (header) return header
  }
  return undefined
}

/** What everything that is stored says alike; undefined where nothing does, or not alike. */
export function agreedIdentity({
  systemIdentifiers,
  walSegmentBytes,
}: OwnIdentity): ClusterIdentity | undefined {
  if (systemIdentifiers.size !== 1 || walSegmentBytes.size !== 1) return undefined
  return { systemIdentifier: [...systemIdentifiers][0]!, walSegmentBytes: [...walSegmentBytes][0]! }
}

/** @returns what is wrong with an identity, by what is stored; undefined where nothing speaks against it */
export function contradiction(identity: ClusterIdentity, own: OwnIdentity): string | undefined {
  const differing = (
    [
      ['the cluster is', identity.systemIdentifier, own.systemIdentifiers],
      ['the bytes of a segment are', identity.walSegmentBytes, own.walSegmentBytes],
    ] as const
  ).find(([, said, stored]) => [...stored].some((each) => each !== said))
  if (!differing) return undefined
  const [what, said, stored] = differing
  return `it says that ${what} ${said}, and what is stored is of ${[...stored].join(' and ')}`
}
