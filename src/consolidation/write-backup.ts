import { parseCodec } from '../archive/codec.ts'
import { BackupStore } from '../backup/backup-store.ts'
import { storeManifest } from '../backup/closing-objects.ts'
import { objectsOfShard } from '../backup/draft-record.ts'
import { requireSpace } from '../backup/preflight.ts'
import type { StoredShard } from '../backup/shard.ts'
import type { BackupDraft, BackupRecord } from '../catalog/backup-record.ts'
import { storeRestoreText } from '../catalog/commit-backup.ts'
import { backupPrefix } from '../catalog/layout.ts'
import type { Repository } from '../catalog/repository.ts'
import { PgrecallError } from '../errors.ts'
import type { Events } from '../events.ts'
import { lsn } from '../postgres/lsn.ts'
import { type Reconstruction, reconstructionOf } from '../reconstruction/reconstruction.ts'
import { rewriteShards } from './rewrite-shards.ts'

export interface WriteOptions {
  repository: Repository
  jobs: number
  tool: BackupRecord['tool']
  events: Events
  signal: AbortSignal
  now: () => Date
}

/**
 * Writes all objects of the full backup that a chain makes, but for its record.
 * @param chain oldest first
 * @returns what is to be recorded
 * @throws PgrecallError `damaged`, `key`, `refused` where it will not fit, `repository`
 */
export async function writeBackup(
  id: string,
  chain: readonly BackupRecord[],
  options: WriteOptions,
): Promise<BackupDraft> {
  const { repository, events, signal, now } = options
  const startedAt = now()
  const newest = chain.at(-1)!
  events.emit('step', { text: `Reading what the ${chain.length} links of ${newest.id} hold` })
  const reconstruction = await reconstructionOf(chain, repository, signal)
  await requireRoom(chain, reconstruction, repository)
  const codec = codecOf(newest)
  const folder = backupPrefix(newest.cluster, id)
  // There is only one repository: what it fails with is thrown anyway.
  const store = new BackupStore([repository], folder, { indexRecipient: undefined, onLost: () => {} })
  const shards = await rewriteShards(reconstruction, newest, { ...options, store, codec })
  requireAllFiles(shards, reconstruction)
  const manifest = await storeManifest(
    { store, request: { codec }, indexIdentities: [] },
    { shards, facts: headOf(newest), ends: endsOf(newest) },
  )
  const draft: BackupDraft = {
    ...recordOf(id, chain, shards, repository),
    startedAt: startedAt.toISOString(),
    tool: options.tool,
    objects: [
      ...shards.flatMap((shard) => objectsOfShard(shard, repository.name)),
      { ...manifest.stored[repository.name]!, kind: 'manifest' },
    ],
  }
  return storeRestoreText(repository.storage, folder, draft)
}

/** It will be about as large as the chain's first link, which holds much the same. */
async function requireRoom(
  chain: readonly BackupRecord[],
  { bytes }: Reconstruction,
  { storage }: Repository,
): Promise<void> {
  const [full, newest] = [chain[0]!, chain.at(-1)!]
  const alike = full.codec === newest.codec ? full : undefined
  await requireSpace(storage, bytes, alike, codecOf(newest).method !== 'none')
}

function codecOf({ id, codec }: BackupRecord) {
  const parsed = parseCodec(codec)
  if (typeof parsed !== 'string') return parsed
  throw new PgrecallError('damaged', `the record of backup ${id} has the codec "${codec}"`, {
    hint: 'a later pgrecall has taken it: use that one',
  })
}

/** The chain may be removed once this backup counts, so that nothing was forgotten is looked at from another side. */
function requireAllFiles(shards: readonly StoredShard[], { files }: Reconstruction): void {
  const written = shards.reduce((sum, shard) => sum + shard.files, 0)
  if (written !== files) throw new Error(`${written} files were written, and the chain has ${files}`)
}

const headOf = ({ systemIdentifier, postgres }: BackupRecord) => ({
  systemIdentifier,
  majorVersion: Math.floor(postgres.version / 10_000),
})

/** A cluster that was shut down is never copied incrementally, so there is a label. */
const endsOf = ({ timeline, start, stop }: BackupRecord) => ({
  timeline,
  start: { lsn: lsn(start.lsn) },
  stop: { lsn: lsn(stop.lsn) },
  label: 'there is one',
})

/** What the new backup has in common with the chain's newest link, and what the shards tell. */
function recordOf(
  id: string,
  chain: readonly BackupRecord[],
  shards: readonly StoredShard[],
  { keys: { sealer } }: Repository,
) {
  const {
    parent: _parent,
    increment: _increment,
    clusterBytes: _clusterBytes,
    recipients: _recipients,
    damagedPages = 0,
    storedBytes: _storedBytes,
    finishedAt: _finishedAt,
    ...common
  } = chain.at(-1)!
  // Nothing is built upon a backup with damaged pages, so the newest link tells of all; that there are none, only all links do.
  const areChecked = damagedPages > 0 || chain.every((link) => link.damagedPages !== undefined)
  const dataShards = shards.filter(({ group }) => group !== 'wal')
  const bytesOf = (some: readonly StoredShard[]) => some.reduce((sum, { fileBytes }) => sum + fileBytes, 0)
  return {
    ...common,
    id,
    type: 'full' as const,
    consolidatedFrom: chain.map((link) => link.id),
    tablespaces: common.tablespaces.map((space) => ({
      ...space,
      bytes: bytesOf(dataShards.filter(({ group }) => group === space.oid)),
    })),
    ...(areChecked && { damagedPages }),
    ...(sealer && { recipients: [...sealer.recipients] }),
    files: dataShards.reduce((sum, shard) => sum + shard.files, 0),
    dataBytes: bytesOf(dataShards),
    resumedBytes: 0,
  }
}
