import type { Codec } from '../archive/codec.ts'
import type { BackupStoreAddress } from '../backup/backup-store.ts'
import type { StoredShard } from '../backup/shard.ts'
import type { RepositoryAddress } from '../catalog/repository.ts'
import type { BaseShard } from '../reconstruction/reconstruction.ts'
import type { StoredShard as LinkShard } from '../reconstruction/shard-content.ts'
import type { Carried } from '../threads/carried-error.ts'

/** What a thread that writes consolidated shards is started with. */
export interface RewriteData {
  /** Where the links are read. */
  repository: RepositoryAddress
  /** Where the new backup goes. */
  store: BackupStoreAddress
  codec: Codec
  /** The shards of all links, by their numbers. */
  shards: readonly LinkShard[]
  /** Shared: plain bytes written, files done, and whether to stop. */
  counters: BigInt64Array<SharedArrayBuffer>
}

export const COUNTER = { bytes: 0, files: 1, stop: 2 } as const

/** One new shard. */
export interface RewriteJob {
  /** What it is made of: shards of the links, and those of their files that go into it. */
  parts: readonly BaseShard[]
  group: string
  name: string
}

export type RewriteMessage =
  | { kind: 'next' }
  | { kind: 'stored'; shard: StoredShard }
  | { kind: 'failed'; error: Carried }
