import '../threads/compile-cache.ts'
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { openRepository } from '../catalog/open-repository.ts'
import type { RepositoryAddress } from '../catalog/repository.ts'
import { PgrecallError } from '../errors.ts'
import type { StoredShard } from '../reconstruction/shard-content.ts'
import { type Carried, carry } from '../threads/carried-error.ts'
import { type ChainJob, type ChainRules, extractBase, type RestoredFile } from './chain-shard.ts'

/** What a thread is started with that extracts chains. */
export interface ChainWorkerData extends ChainRules {
  repository: RepositoryAddress
  /** Of all links, by their numbers. */
  shards: readonly StoredShard[]
  /** Shared: see COUNTER. */
  counters: BigInt64Array<SharedArrayBuffer>
}

/** Plain bytes and files that are done, whether to stop, bytes that were written, and bytes that were there. */
export const COUNTER = { bytes: 0, files: 1, stop: 2, written: 3, kept: 4 } as const
export const COUNTERS = 5

export type ChainMessage =
  | { kind: 'next' }
  | { kind: 'files'; files: RestoredFile[] }
  | { kind: 'failed'; error: Carried }

const FILES_AT_ONCE = 1000

async function extract(port: MessagePort, data: ChainWorkerData): Promise<void> {
  const { repository: address, counters, ...rules } = data
  const repository = openRepository(address)
  let files: RestoredFile[] = []
  const flush = () => {
    port.postMessage({ kind: 'files', files } satisfies ChainMessage)
    files = []
  }
  const next = () =>
    new Promise<ChainJob | undefined>((resolve) => {
      port.once('message', resolve)
      port.postMessage({ kind: 'next' } satisfies ChainMessage)
    })
  const onBytes = (count: number) => {
    if (Atomics.load(counters, COUNTER.stop) !== 0n)
      throw new PgrecallError('interrupted', 'the restore was stopped')
    Atomics.add(counters, COUNTER.bytes, BigInt(count))
  }
  const onFile = (file: RestoredFile | undefined, writtenBytes: number, keptBytes: number) => {
    Atomics.add(counters, COUNTER.files, 1n)
    Atomics.add(counters, COUNTER.written, BigInt(writtenBytes))
    Atomics.add(counters, COUNTER.kept, BigInt(keptBytes))
    if (!file) return
    files.push(file)
    if (files.length === FILES_AT_ONCE) flush()
  }
  for (let job = await next(); job; job = await next()) {
    await extractBase(job, { ...rules, repository, onBytes, onFile })
    flush()
  }
}

if (parentPort) {
  const port = parentPort
  extract(port, workerData as ChainWorkerData)
    .catch((error) => port.postMessage({ kind: 'failed', error: carry(error) } satisfies ChainMessage))
    .finally(() => port.close())
}
