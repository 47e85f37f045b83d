import { formatCodec } from '../archive/codec.ts'
import type { BackupObject, BackupRecord } from '../catalog/backup-record.ts'
import { FORMAT } from '../catalog/identity.ts'
import { formatLsn } from '../postgres/lsn.ts'
import type { BackupRun, Taken } from './method.ts'
import type { StoredShard } from './shard.ts'

/** `backup.json` before the last object is stored and the end is known. */
export type BackupDraft = Omit<BackupRecord, 'storedBytes' | 'finishedAt'>

/** Puts together all that is recorded of a backup. */
export function draftRecord(
  { id, request, kept }: BackupRun,
  method: BackupRecord['method'],
  startedAt: Date,
  { facts, owner, ends, shards, damaged, warnings }: Taken,
  closing: readonly BackupObject[],
): BackupDraft {
  const dataShards = shards.filter((shard) => shard.group !== 'wal')
  const { start, stop } = ends
  return {
    format: FORMAT,
    id,
    cluster: request.cluster,
    type: 'full',
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
    codec: formatCodec(request.codec),
    files: dataShards.reduce((sum, shard) => sum + shard.files, 0),
    dataBytes: bytesOf(dataShards),
    resumedBytes: kept.bytes,
    startedAt: startedAt.toISOString(),
    tool: request.tool,
    warnings,
    damaged: damaged ?? [],
    objects: [...shards.flatMap(objectsOfShard), ...closing],
  }
}

/** A shard and its index as the record lists them. */
function objectsOfShard({
  name,
  group,
  bytes,
  sha256,
  plainBytes,
  members,
  index,
}: StoredShard): BackupObject[] {
  return [
    { name, kind: 'shard', bytes, sha256, group, members, plainBytes },
    { ...index, kind: 'index', group },
  ]
}

function bytesOf(shards: readonly StoredShard[], group?: string): number {
  return shards
    .filter((shard) => group === undefined || shard.group === group)
    .reduce((sum, shard) => sum + shard.fileBytes, 0)
}
