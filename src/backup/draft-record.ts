import { formatCodec } from '../archive/codec.ts'
import type { BackupDraft, BackupObject, BackupRecord, StoredObject } from '../catalog/backup-record.ts'
import { FORMAT } from '../catalog/identity.ts'
import type { Repository } from '../catalog/repository.ts'
import { formatLsn } from '../postgres/lsn.ts'
import type { BackupRun, Taken } from './method.ts'
import type { StoredShard } from './shard.ts'

/** The manifest as it is stored in one repository, and the bytes of all files as a restore writes them. */
export interface StoredManifestFacts {
  object: StoredObject
  clusterBytes: number
}

/** Puts together all that is recorded of a backup in one repository. @param manifest as it is stored there */
export function draftRecord(
  { name: repository, keys }: Repository,
  { id, type, parent, request, kept }: BackupRun,
  method: BackupRecord['method'],
  startedAt: Date,
  { facts, owner, ends, shards, damaged, warnings, increment, withoutVisibilityMaps, databases }: Taken,
  manifest: StoredManifestFacts,
): BackupDraft {
  const dataShards = shards.filter((shard) => shard.group !== 'wal')
  const { start, stop } = ends
  return {
    format: FORMAT,
    id,
    cluster: request.cluster,
    type,
    ...(parent && { parent: linkTo(parent.record) }),
    ...(increment && { increment }),
    ...(withoutVisibilityMaps && { withoutVisibilityMaps }),
    method,
    label: request.label,
    systemIdentifier: facts.systemIdentifier,
    postgres: { version: facts.version, text: facts.versionText },
    timeline: ends.timeline,
    start: { ...start, lsn: formatLsn(start.lsn) },
    stop: { ...stop, lsn: formatLsn(stop.lsn) },
    xminAtStop: ends.xmin,
    standalone: request.standalone,
    fromStandby: ends.fromStandby,
    dataChecksums: facts.dataChecksums,
    ...(damaged && { damagedPages: damaged.reduce((sum, { pages }) => sum + pages, 0) }),
    walSegmentBytes: facts.walSegmentBytes,
    dataDirectory: facts.dataDirectory,
    owner,
    outsideFiles: facts.outsideFiles,
    tablespaces: facts.tablespaces.map((space) => ({ ...space, bytes: bytesOf(dataShards, space.oid) })),
    ...(databases && { databases }),
    codec: formatCodec(request.codec),
    ...(keys.sealer && { recipients: [...keys.sealer.recipients] }),
    files: dataShards.reduce((sum, shard) => sum + shard.files, 0),
    dataBytes: bytesOf(dataShards),
    ...(parent && { clusterBytes: manifest.clusterBytes }),
    resumedBytes: kept.bytes,
    startedAt: startedAt.toISOString(),
    tool: request.tool,
    warnings,
    damaged: damaged ?? [],
    objects: [
      ...shards.flatMap((shard) => objectsOfShard(shard, repository)),
      { ...manifest.object, kind: 'manifest' },
    ],
  }
}

const linkTo = ({ id, start, timeline }: BackupRecord) => ({ id, startLsn: start.lsn, timeline })

/** A shard and its index as the record lists them. */
export function objectsOfShard(shard: StoredShard, repository: string): BackupObject[] {
  const { name, group, plainBytes, members, stored, index } = shard
  const [object, itsIndex] = [stored[repository], index[repository]]
  if (!object || !itsIndex) throw new Error(`${name} was not stored in "${repository}"`)
  return [
    { ...object, kind: 'shard', group, members, plainBytes },
    { ...itsIndex, kind: 'index', group },
  ]
}

function bytesOf(shards: readonly StoredShard[], group?: string): number {
  return shards
    .filter((shard) => group === undefined || shard.group === group)
    .reduce((sum, shard) => sum + shard.fileBytes, 0)
}
