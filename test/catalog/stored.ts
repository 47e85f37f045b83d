import { createHash } from 'node:crypto'
import type { BackupRecord, BackupSummary } from '../../src/catalog/backup-record.ts'
import { backupRecordKey, walKey } from '../../src/catalog/layout.ts'
import type { LogicalRecord, LogicalSummary } from '../../src/catalog/logical-record.ts'
import { encodeRecord } from '../../src/catalog/record-file.ts'
import { formatLsn } from '../../src/postgres/lsn.ts'
import { segmentName, segmentStart } from '../../src/postgres/wal-file.ts'
import type { Storage } from '../../src/storage/storage.ts'

export const MIB = 1024 * 1024
export const SEGMENT = 16 * MIB

/** A backup that lies in the segments `first` to `last` of a timeline; everything else is made up. */
export function summary(
  id: string,
  facts: Partial<BackupSummary> & { first?: number; last?: number } = {},
): BackupSummary {
  const { first = 10, last = first, timeline = 1, walSegmentBytes = SEGMENT, ...rest } = facts
  const place = (number: number, offset: bigint, time: string) => ({
    lsn: formatLsn(segmentStart(BigInt(number), walSegmentBytes) + offset),
    walFile: segmentName(timeline, BigInt(number), walSegmentBytes),
    time,
  })
  const moment = `${id.slice(0, 4)}-${id.slice(4, 6)}-${id.slice(6, 8)}T${id.slice(9, 11)}:${id.slice(11, 13)}`
  return {
    format: 1,
    id,
    cluster: 'main',
    type: 'full',
    method: 'files',
    label: '',
    systemIdentifier: '7400000000000000001',
    postgres: { version: 170002, text: '17.2' },
    timeline,
    start: place(first, 0x28n, `${moment}:00.000000Z`),
    stop: place(last, 0x1000n, `${moment}:30.000000Z`),
    xminAtStop: '1000',
    standalone: false,
    fromStandby: false,
    dataChecksums: true,
    walSegmentBytes,
    dataDirectory: '/var/lib/postgresql/17/main',
    owner: { uid: 26, gid: 26 },
    outsideFiles: [],
    tablespaces: [],
    codec: 'zstd:1',
    files: 3,
    dataBytes: 300,
    resumedBytes: 0,
    storedBytes: 100,
    startedAt: `${moment}:00.000Z`,
    finishedAt: `${moment}:31.000Z`,
    tool: { name: 'pgrecall', version: '0.1.0' },
    warnings: [],
    ...rest,
  }
}

export function record(id: string, facts: Parameters<typeof summary>[1] = {}): BackupRecord {
  return recordOf(summary(id, facts))
}

/** The record of a backup with one shard. */
export function recordOf(backup: BackupSummary): BackupRecord {
  const objects: BackupRecord['objects'] = [
    { name: 'base.0001.tar.zst', kind: 'shard', bytes: 100, sha256: 'a'.repeat(64), group: 'base' },
  ]
  return { ...backup, damaged: [], objects }
}

/** Stores a backup with one shard. */
export async function storeBackup(storage: Storage, backup: BackupRecord): Promise<void> {
  const key = backupRecordKey(backup.cluster, backup.id)
  await storage.put(key.replace('backup.json', 'base.0001.tar.zst'), Buffer.alloc(100))
  await storage.put(key, encodeRecord(backup))
}

/** Stores WAL segments by their numbers; only their names and sizes count. */
export async function storeWal(
  storage: Storage,
  numbers: Iterable<number>,
  { timeline = 1, segmentBytes = SEGMENT, bytes = 10 } = {},
): Promise<void> {
  for (const number of numbers) {
    const name = segmentName(timeline, BigInt(number), segmentBytes)
    await storage.put(walKey('main', name), Buffer.alloc(bytes))
  }
}

export async function keysOf(storage: Storage, prefix = ''): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of storage.list(prefix)) keys.push(key)
  return keys
}

export function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index)
}

/**
 * A backup that builds upon another one, of the type that its id ends with.
 * @param facts as those of `summary`
 */
export function increment(
  id: string,
  { id: parent, start, timeline }: BackupSummary,
  facts: Parameters<typeof summary>[1] = {},
): BackupSummary {
  return summary(id, {
    type: id.endsWith('-diff') ? 'diff' : 'incr',
    parent: { id: parent, startLsn: start.lsn, timeline },
    timeline,
    increment: { source: 'wal-summaries', changedBlocks: 12, readBytes: 98_304 },
    dataBytes: 30,
    clusterBytes: 300,
    storedBytes: 10,
    ...facts,
  })
}

/** A logical backup of one database. */
export function logicalSummary(id: string, facts: Partial<LogicalSummary> = {}): LogicalSummary {
  const moment = `${id.slice(0, 4)}-${id.slice(4, 6)}-${id.slice(6, 8)}T${id.slice(9, 11)}:${id.slice(11, 13)}`
  return {
    format: 1,
    id,
    cluster: 'main',
    method: 'logical',
    form: 'archives',
    label: '',
    systemIdentifier: '7400000000000000001',
    postgres: { version: 170002, text: '17.2' },
    dumpVersion: 17,
    fromStandby: false,
    hasGlobals: true,
    databases: [dumpedDatabase('postgres', { lsn: '0/A000028', time: `${moment}:10.000000Z` })],
    compressedBy: 'pg_dump',
    codec: 'zstd:1',
    dumpedBytes: 300,
    storedBytes: 100,
    startedAt: `${moment}:00.000Z`,
    finishedAt: `${moment}:31.000Z`,
    tool: { name: 'pgrecall', version: '0.1.0' },
    warnings: [],
    ...facts,
  }
}

/** A database in a logical backup, with one table. */
export function dumpedDatabase(
  name: string,
  facts: Partial<LogicalSummary['databases'][number]> = {},
): LogicalSummary['databases'][number] {
  return {
    oid: '5',
    name,
    owner: 'postgres',
    encoding: 'UTF8',
    collate: 'C.UTF-8',
    ctype: 'C.UTF-8',
    provider: 'libc',
    lsn: '0/A000028',
    time: '2026-11-20T12:00:10.000000Z',
    bytes: 8_000_000,
    contents: { TABLE: 1, 'TABLE DATA': 1 },
    ...facts,
  }
}

/** The record of a logical backup with one dump. */
export function logicalRecord(id: string, facts: Partial<LogicalSummary> = {}): LogicalRecord {
  const objects: LogicalRecord['objects'] = [
    {
      ...{ name: 'postgres.dump', kind: 'dump', database: '5', archive: 'custom' },
      ...{ bytes: 100, sha256: createHash('sha256').update(Buffer.alloc(100)).digest('hex') },
    },
  ]
  return { ...logicalSummary(id, facts), objects }
}

/** Stores a logical backup; its dump is no archive. */
export async function storeLogical(storage: Storage, backup: LogicalRecord): Promise<void> {
  const key = backupRecordKey(backup.cluster, backup.id)
  await storage.put(key.replace('backup.json', 'postgres.dump'), Buffer.alloc(100))
  await storage.put(key, encodeRecord(backup))
}
