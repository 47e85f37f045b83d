import '../threads/compile-cache.ts'
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import type { Codec } from '../archive/codec.ts'
import { FRAME_BYTES } from '../archive/shard-writer.ts'
import { pathInCluster } from '../catalog/layout.ts'
import { PgrecallError } from '../errors.ts'
import { type BackupEnd, type BaseBackupRequest, baseBackup } from '../postgres/base-backup.ts'
import type { Program } from '../postgres/client-programs.ts'
import type { Lsn } from '../postgres/lsn.ts'
import { pgBasebackup } from '../postgres/pg-basebackup.ts'
import { type Carried, carry } from '../threads/carried-error.ts'
import { BackupStore, type BackupStoreAddress } from './backup-store.ts'
import { PageInspector, type PageRules, type PageTrouble } from './page-check.ts'
import type { StoredShard } from './shard.ts'
import type { RelationFacts } from './stream-increment.ts'
import { type Intake, takeIn } from './stream-intake.ts'
import type { FileObserver } from './stream-members.ts'

/** How the base backup is fetched: with PostgreSQL's program, or by speaking the protocol ourselves. */
export type StreamSource =
  | { kind: 'program'; program: Program; env: Record<string, string | undefined> }
  | { kind: 'protocol' }

/** What the receiving thread is started with. */
export interface StreamWorkerData {
  source: StreamSource
  asked: BaseBackupRequest
  store: BackupStoreAddress
  codec: Codec
  pages: PageRules | undefined
  /** Of an incremental backup; undefined for a full one. */
  relations: RelationFacts | undefined
  /** A shard is closed when its plain bytes reach this, or when it has so many files. */
  shardBytes: number
  shardFiles: number
  archiveTimeoutMs: number
  /** Shared: bytes read and files done. */
  counters: BigInt64Array<SharedArrayBuffer>
  /** Shared: the thread is told to stop by a 1, and woken. */
  stop: Int32Array<SharedArrayBuffer>
}

export const STREAM_COUNTER = { bytes: 0, files: 1 } as const

export type StreamMessage =
  | { kind: 'warning'; text: string }
  | { kind: 'waiting'; text: string }
  | { kind: 'begun'; start: BackupEnd }
  | { kind: 'stored'; shard: StoredShard }
  | { kind: 'trouble'; trouble: PageTrouble }
  | { kind: 'done'; intake: Intake }
  | { kind: 'lost'; repository: string; error: Carried }
  | { kind: 'failed'; error: Carried }

/** Fetches a base backup and puts it into shards. */
async function receive(port: MessagePort, data: StreamWorkerData): Promise<void> {
  const post = (message: StreamMessage) => port.postMessage(message)
  const stopped = new AbortController()
  const { signal } = stopped
  abortWhenTold(data.stop, stopped)
  const options = {
    ...data.asked,
    onWarning: (text: string) => post({ kind: 'warning', text }),
    onWaiting: (text: string) => post({ kind: 'waiting', text }),
    signal,
  }
  const { source, counters } = data
  const parts =
    source.kind === 'program' ? pgBasebackup(source.program, source.env, options) : baseBackup(options)
  const pages = data.pages && new PageInspector(data.pages, FRAME_BYTES)
  let waiting: NodeJS.Timeout | undefined
  const watched = async function* () {
    try {
      yield* parts
    } finally {
      clearTimeout(waiting)
    }
  }
  const intake = await takeIn(watched(), {
    store: BackupStore.open(data.store, (repository, error) =>
      post({ kind: 'lost', repository, error: carry(error) }),
    ),
    codec: data.codec,
    shardBytes: data.shardBytes,
    shardFiles: data.shardFiles,
    relations: data.relations,
    buffer: pages?.buffer ?? Buffer.allocUnsafeSlow(FRAME_BYTES),
    observe: (group, path, start) =>
      pages && observePages(pages, group, path, start, (trouble) => post({ kind: 'trouble', trouble })),
    onProgress: (bytes, files) => {
      Atomics.add(counters, STREAM_COUNTER.bytes, BigInt(bytes))
      Atomics.add(counters, STREAM_COUNTER.files, BigInt(files))
    },
    onStart: (start) => post({ kind: 'begun', start }),
    onShard: (shard) => post({ kind: 'stored', shard }),
    onControl: () => {
      if (!data.asked.wal) waiting = abortLater(data.archiveTimeoutMs, stopped)
    },
    signal,
  })
  post({ kind: 'done', intake })
}

/** The pages of a file on their way into a shard. */
function observePages(
  pages: PageInspector,
  group: string,
  path: string,
  start: Lsn,
  onTrouble: (trouble: PageTrouble) => void,
): FileObserver | undefined {
  pages.setStart(start)
  const file = pages.begin(path, {})
  return (
    file && {
      take: (bytes, position) => file.take(bytes, position),
      end: () => {
        const { trouble, lastLsn } = file.end()
        if (trouble) onTrouble({ ...trouble, path: pathInCluster(group, path) })
        return lastLsn === undefined ? {} : { lastLsn }
      },
    }
  )
}

function abortWhenTold(stop: Int32Array<SharedArrayBuffer>, stopped: AbortController): void {
  const abort = () => stopped.abort(new Error('the thread was stopped'))
  const told = Atomics.waitAsync(stop, 0, 0)
  if (told.async) void told.value.then(abort)
  else abort()
}

/** After `pg_control` nothing is left to come but the end, which the server may hold back for its archiver. */
function abortLater(timeoutMs: number, stopped: AbortController): NodeJS.Timeout {
  const seconds = Math.round(timeoutMs / 1000)
  const error = new PgrecallError(
    'failed',
    `the server waits for its archiver, and no end came within ${seconds} s`,
    {
      hint: 'run "pgrecall check" and look into the server\'s log for messages of archive_command; a backup without its WAL cannot be restored, so it was not kept',
    },
  )
  return setTimeout(() => stopped.abort(error), timeoutMs)
}

if (parentPort) {
  const port = parentPort
  receive(port, workerData as StreamWorkerData)
    .catch((error) => port.postMessage({ kind: 'failed', error: carry(error) } satisfies StreamMessage))
    .finally(() => port.close())
}
