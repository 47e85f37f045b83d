import { stat } from 'node:fs/promises'
import { type Codec, formatCodec } from '../archive/codec.ts'
import type { BackupObject, BackupRecord } from '../catalog/backup-record.ts'
import { FORMAT } from '../catalog/identity.ts'
import type { BackupStart, BackupStop } from '../postgres/low-level-backup.ts'
import { formatLsn } from '../postgres/lsn.ts'
import type { ServerFacts } from '../postgres/server.ts'
import type { StoredShard } from './shard.ts'

/** `backup.json` before the last object is stored and the end is known. */
export type BackupDraft = Omit<BackupRecord, 'storedBytes' | 'finishedAt'>

/** What of the request is recorded. */
export interface Asked {
  cluster: string
  label: string
  standalone: boolean
  codec: Codec
  tool: { name: string; version: string }
}

/** Puts together all that is recorded of a backup. */
export async function draftRecord(
  request: Asked,
  facts: ServerFacts,
  { id, startedAt, start, stop }: { id: string; startedAt: Date; start: BackupStart; stop: BackupStop },
  stored: { shards: readonly StoredShard[]; objects: BackupObject[]; warnings: string[] },
): Promise<BackupDraft> {
  const dataShards = stored.shards.filter((shard) => shard.group !== 'wal')
  const { uid, gid } = await stat(facts.dataDirectory)
  return {
    format: FORMAT,
    id,
    cluster: request.cluster,
    type: 'full',
    method: 'files',
    label: request.label,
    systemIdentifier: facts.systemIdentifier,
    postgres: { version: facts.version, text: facts.versionText },
    timeline: start.timeline,
    start: { lsn: formatLsn(start.lsn), walFile: start.walFile, time: start.time },
    stop: { lsn: formatLsn(stop.lsn), walFile: stop.walFile, time: stop.time },
    xminAtStop: stop.xmin,
    standalone: request.standalone,
    dataChecksums: facts.dataChecksums,
    walSegmentBytes: facts.walSegmentBytes,
    dataDirectory: facts.dataDirectory,
    owner: { uid, gid },
    outsideFiles: facts.outsideFiles,
    tablespaces: facts.tablespaces.map((space) => ({ ...space, bytes: bytesOf(dataShards, space.oid) })),
    codec: formatCodec(request.codec),
    files: dataShards.reduce((sum, shard) => sum + shard.files.length, 0),
    dataBytes: bytesOf(dataShards),
    startedAt: startedAt.toISOString(),
    tool: request.tool,
    warnings: stored.warnings,
    objects: stored.objects,
  }
}

/** A shard as the record lists it. */
export function objectOfShard({
  name,
  group,
  bytes,
  sha256,
  plainBytes,
  members,
}: StoredShard): BackupObject {
  return { name, kind: 'shard', bytes, sha256, group, members, plainBytes }
}

function bytesOf(shards: readonly StoredShard[], group?: string): number {
  return shards
    .filter((shard) => group === undefined || shard.group === group)
    .reduce((sum, shard) => sum + shard.files.reduce((bytes, file) => bytes + file.size, 0), 0)
}
