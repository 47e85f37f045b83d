import '../threads/compile-cache.ts'
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { openRepository } from '../catalog/open-repository.ts'
import type { RepositoryAddress } from '../catalog/repository.ts'
import { PgrecallError } from '../errors.ts'
import { type Carried, carry } from '../threads/carried-error.ts'
import { type ExtractedShard, type ExtractJob, type ExtractOptions, extractShard } from './extract-shard.ts'

/** What an extracting thread is started with. */
export interface ExtractWorkerData extends Pick<ExtractOptions, 'owner' | 'syncFiles'> {
  repository: RepositoryAddress
  /** Shared counters: plain bytes written, files done, and whether to stop. */
  counters: BigInt64Array<SharedArrayBuffer>
}

export const COUNTER = { bytes: 0, files: 1, stop: 2 } as const

export type ExtractMessage =
  | { kind: 'next' }
  | { kind: 'done'; name: string; shard: ExtractedShard }
  | { kind: 'failed'; error: Carried }

async function extract(port: MessagePort, data: ExtractWorkerData): Promise<void> {
  const { counters, owner, syncFiles } = data
  const next = () =>
    new Promise<ExtractJob | undefined>((resolve) => {
      port.once('message', resolve)
      port.postMessage({ kind: 'next' } satisfies ExtractMessage)
    })
  const onBytes = (count: number) => {
    if (Atomics.load(counters, COUNTER.stop) !== 0n)
      throw new PgrecallError('interrupted', 'the restore was stopped')
    Atomics.add(counters, COUNTER.bytes, BigInt(count))
  }
  const onFile = () => Atomics.add(counters, COUNTER.files, 1n)
  const repository = openRepository(data.repository)
  for (let job = await next(); job; job = await next()) {
    const shard = await extractShard(job, { repository, owner, syncFiles, onBytes, onFile })
    port.postMessage({ kind: 'done', name: job.object.name, shard } satisfies ExtractMessage)
  }
}

if (parentPort) {
  const port = parentPort
  extract(port, workerData as ExtractWorkerData)
    .catch((error) => port.postMessage({ kind: 'failed', error: carry(error) } satisfies ExtractMessage))
    .finally(() => port.close())
}
