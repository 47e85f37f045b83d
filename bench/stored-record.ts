import type { BackupRecord } from '../src/catalog/backup-record.ts'

export const SEGMENT_BYTES = 16 * 1024 * 1024

/** Of each backup, beside its record. */
const NAMES = ['base.0001.tar.zst', 'backup_manifest.zst']

/** What differs between the backups of a benchmark. */
export type RecordFacts = Pick<BackupRecord, 'id' | 'cluster' | 'systemIdentifier'> & Partial<BackupRecord>

/** The record of a backup that nobody took, with all that a real one says. */
export function storedRecord(facts: RecordFacts): BackupRecord {
  const time = '2026-01-01T00:00:00.000000Z'
  const end = { lsn: '0/2000028', walFile: '000000010000000000000002', time }
  return {
    format: 1,
    type: 'full',
    method: 'files',
    label: '',
    postgres: { version: 150018, text: '15.18 (Debian 15.18-0+deb12u1)' },
    timeline: 1,
    start: end,
    stop: end,
    xminAtStop: '730',
    standalone: false,
    fromStandby: false,
    dataChecksums: true,
    damagedPages: 0,
    walSegmentBytes: SEGMENT_BYTES,
    dataDirectory: '/var/lib/postgresql/15/main',
    owner: { uid: 100, gid: 100 },
    outsideFiles: [],
    tablespaces: [],
    databases: [
      { oid: '1', name: 'template1' },
      { oid: '4', name: 'template0' },
      { oid: '5', name: 'postgres' },
      { oid: '16384', name: 'shop' },
    ],
    codec: 'zstd:1',
    files: 1000,
    dataBytes: 2_000_000_000,
    storedBytes: 500_000_000,
    resumedBytes: 0,
    startedAt: '2026-01-01T00:00:00.000Z',
    finishedAt: '2026-01-01T00:01:00.000Z',
    tool: { name: 'pgrecall', version: '0.1.0' },
    warnings: [],
    damaged: [],
    objects: NAMES.map((name) => ({
      name,
      kind: 'shard',
      group: 'base',
      members: 1,
      plainBytes: 1,
      bytes: 1,
      sha256: '0'.repeat(64),
    })),
    ...facts,
  }
}
