import type { MessagePort } from 'node:worker_threads'
import type { Codec } from '../archive/codec.ts'
import type { BackupStoreAddress } from './backup-store.ts'
import type { FileChange } from './file-changes.ts'
import type { PageRules } from './page-check.ts'
import type { SourceItem } from './source-list.ts'

/** What a copying thread is started with. */
export interface CopyWorkerData {
  store: BackupStoreAddress
  codec: Codec
  /** A shard is closed when its plain bytes reach this. */
  shardBytes: number
  /** Plain bytes a second that all threads read together. */
  maxRate: number | undefined
  pages: PageRules | undefined
  /** `block_size`, where it is known what has changed. */
  blockBytes: number | undefined
  /** When the files stood still, if they are a snapshot's; milliseconds since 1970. */
  frozenAtMs: number | undefined
  /** Shared: see COUNTER. */
  counters: BigInt64Array<SharedArrayBuffer>
}

/** Bytes read, files done, whether to stop, when the next read is due, and blocks that went into incremental files. */
export const COUNTER = { bytes: 0, files: 1, stop: 2, due: 3, blocks: 4 } as const
export const COUNTERS = 5

/** A worker asks, the main thread answers: for a new shard, or for more items of the open one's group. */
export type CopyRequest = { kind: 'shard' } | { kind: 'items'; group: string }
export type CopyAnswer = CopyJob | { help: MessagePort } | undefined
export interface CopyJob {
  name: string
  group: string
  root: string
  liveRoot: string | undefined
  items: CopyItem[]
}
/** A file that is taken whole, unless it is said what of it has changed. */
export interface CopyItem extends SourceItem {
  change?: FileChange
}
