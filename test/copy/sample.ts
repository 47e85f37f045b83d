import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { newIdentity } from '../../src/archive/age.ts'
import { compressFrame, parseCodec } from '../../src/archive/codec.ts'
import { BackupStore, type StoredIn } from '../../src/backup/backup-store.ts'
import type {
  BackupObject,
  BackupRecord,
  BackupSummary,
  StoredObject,
} from '../../src/catalog/backup-record.ts'
import { loadCatalog } from '../../src/catalog/catalog.ts'
import { storeRecord, storeRestoreText } from '../../src/catalog/commit-backup.ts'
import { claimIdentity } from '../../src/catalog/identity.ts'
import { backupPrefix } from '../../src/catalog/layout.ts'
import type { Repository } from '../../src/catalog/repository.ts'
import { indexName, type ShardHead, ShardIndex } from '../../src/catalog/shard-index.ts'
import { type CopyContext, type CopyJob, copyCluster } from '../../src/copy/copy-cluster.ts'
import { Events } from '../../src/events.ts'
import { segmentName, segmentNumber } from '../../src/postgres/wal-file.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { pushWalFile } from '../../src/wal/push.ts'
import { summary } from '../catalog/stored.ts'
import type { Scratch } from '../lab/scratch.ts'
import { SEGMENT, START, WalWriter } from '../postgres/wal-writer.ts'

const FIRST = segmentNumber(START, SEGMENT)
const CODEC = 'zstd:1'

/** The name of a segment of the sample's WAL. */
export const sampleSegment = (index: number) => segmentName(1, FIRST + BigInt(index), SEGMENT)

export async function localStorage(scratch: Scratch, name: string): Promise<LocalStorage> {
  const storage = new LocalStorage(join(scratch.path, name))
  await storage.create(undefined)
  return storage
}

/** Archives segments that hold nothing but their first page's header. @returns their bytes */
export async function archiveSample(
  scratch: Scratch,
  repository: Repository,
  count: number,
): Promise<Buffer[]> {
  await claimIdentity(repository.storage, 'main', { systemIdentifier: '42', walSegmentBytes: SEGMENT })
  const writer = new WalWriter(count)
  const folder = await scratch.folder(`pg_wal of ${repository.name}`)
  for (let index = 0; index < count; index++) {
    writer.at = index * SEGMENT
    writer.page(0, 0)
    writer.segment(index).fill(index + 1, 40)
    const path = join(folder, sampleSegment(index))
    await writeFile(path, writer.segment(index))
    await pushWalFile({ path, cluster: 'main', repositories: [repository], level: 1 })
  }
  return Array.from({ length: count }, (_, index) => Buffer.from(writer.segment(index)))
}

/** What the record of a backup says that builds upon another one. */
export const buildingOn = ({ id, start, timeline }: BackupSummary) =>
  ({ type: 'incr', parent: { id, startLsn: start.lsn, timeline } }) as const

/** Stores a backup of two shards with their indexes, whose own WAL is one segment of the sample's. */
export async function storeSample(
  repository: Repository,
  id: string,
  segment: number,
  facts: Partial<BackupSummary> = {},
): Promise<BackupRecord> {
  const folder = backupPrefix('main', id)
  const codec = parseCodec(CODEC)
  if (typeof codec === 'string') throw new Error(codec)
  const store = new BackupStore([repository], folder, {
    indexRecipient: (await newIdentity()).recipient,
    onLost: (_name, error) => {
      throw error
    },
  })
  const own = (stored: StoredIn): StoredObject => stored[repository.name]!
  const objects: BackupObject[] = []
  for (const number of [1, 2]) {
    const name = `base.000${number}.tar.zst`
    const content = compressFrame(codec, randomBytes(300_000))
    const shard = own(await store.put(name, pieces(content)))
    const index = new ShardIndex(codec)
    index.add({ path: `base/1/${number}`, size: 300_000, modifiedMs: 1, sha256: '0'.repeat(64), offset: 512 })
    const { name: shardName, ...facts } = shard
    const head: ShardHead = {
      ...{
        shard: shardName,
        run: store.token,
        repositories: ['local'],
        codec: CODEC,
        group: 'base',
        frameBytes: 300_000,
        frames: [0],
      },
      ...{ plainBytes: 300_000, members: 1, files: 1, fileBytes: 300_000, unsettled: 0 },
      ...facts,
    }
    objects.push({ ...shard, kind: 'shard', group: 'base', members: 1, plainBytes: 300_000 })
    objects.push({
      ...own(await store.put(indexName(name, codec), pieces(...index.finish(head)), { isIndex: true })),
      kind: 'index',
    })
  }
  const manifest = compressFrame(codec, Buffer.from('{}'))
  objects.push({ ...own(await store.put('backup_manifest.zst', pieces(manifest))), kind: 'manifest' })
  const recipients = repository.keys.sealer?.recipients
  const {
    storedBytes: _bytes,
    finishedAt,
    ...draft
  } = summary(id, {
    ...{ first: Number(FIRST) + segment, walSegmentBytes: SEGMENT, systemIdentifier: '42' },
    ...(recipients && { recipients: [...recipients] }),
    ...facts,
  })
  const complete = await storeRestoreText(repository.storage, folder, { ...draft, damaged: [], objects })
  return storeRecord(repository.storage, folder, complete, new Date(finishedAt))
}

async function* pieces(...buffers: Buffer[]) {
  yield* buffers
}

/** Copies everything of the sample. */
export function copyAll(
  from: Repository,
  to: Repository,
  { job, context }: { job?: Partial<CopyJob>; context?: Partial<CopyContext> } = {},
) {
  return copyCluster(
    { cluster: 'main', from, to, ids: [], backups: true, wal: true, jobs: 2, level: 1, ...job },
    {
      makeIfNew: async () => {},
      events: new Events(),
      signal: new AbortController().signal,
      now: () => new Date(),
      ...context,
    },
  )
}

export async function idsIn({ storage }: Repository): Promise<string[]> {
  const { backups } = await loadCatalog(storage, 'main', { fresh: true })
  return backups.map(({ id }) => id)
}
