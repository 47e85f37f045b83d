import '../threads/compile-cache.ts'
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { openRepository } from '../catalog/open-repository.ts'
import type { Repository, RepositoryAddress } from '../catalog/repository.ts'
import { PgrecallError } from '../errors.ts'
import { type Carried, carry } from '../threads/carried-error.ts'
import type { ReadJob, ReadResult } from './read-job.ts'
import { verifyObject } from './verify-object.ts'
import { verifyShard } from './verify-shard.ts'
import { verifyWal } from './verify-wal.ts'

/** What a reading thread is started with. */
export interface ReadWorkerData {
  repository: RepositoryAddress
  /** Shared: stored bytes that were read, and whether to stop. */
  counters: BigInt64Array<SharedArrayBuffer>
}

export const COUNTER = { bytes: 0, stop: 1 } as const

export type ReadMessage =
  | { kind: 'next' }
  | { kind: 'done'; number: number; result: ReadResult }
  | { kind: 'failed'; error: Carried }

/** A job with the number by which its result is known. */
export interface NumberedJob {
  number: number
  job: ReadJob
}

async function read(port: MessagePort, { repository: address, counters }: ReadWorkerData): Promise<void> {
  const next = () =>
    new Promise<NumberedJob | undefined>((resolve) => {
      port.once('message', resolve)
      port.postMessage({ kind: 'next' } satisfies ReadMessage)
    })
  const onBytes = (count: number) => {
    if (Atomics.load(counters, COUNTER.stop) !== 0n)
      throw new PgrecallError('interrupted', 'the verification was stopped')
    Atomics.add(counters, COUNTER.bytes, BigInt(count))
  }
  const repository = openRepository(address)
  for (let numbered = await next(); numbered; numbered = await next()) {
    const { number, job } = numbered
    const result = await carryOut(repository, job, onBytes)
    port.postMessage({ kind: 'done', number, result } satisfies ReadMessage)
  }
}

async function carryOut(
  repository: Repository,
  job: ReadJob,
  onBytes: (count: number) => void,
): Promise<ReadResult> {
  if (job.kind === 'wal') return verifyWal(repository, job, onBytes)
  if (job.kind === 'object') return verifyObject(repository, job, onBytes)
  try {
    return await verifyShard(repository, job, onBytes)
  } catch (error) {
    if (!(error instanceof PgrecallError) || error.kind !== 'key') throw error
    const { key, object } = job
    const summed = await verifyObject(repository, { kind: 'object', key, object, decode: false }, onBytes)
    return { ...summed, undecoded: 1 }
  }
}

if (parentPort) {
  const port = parentPort
  read(port, workerData as ReadWorkerData)
    .catch((error) => port.postMessage({ kind: 'failed', error: carry(error) } satisfies ReadMessage))
    .finally(() => port.close())
}
