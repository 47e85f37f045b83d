import '../threads/compile-cache.ts'
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { openRepository } from '../catalog/open-repository.ts'
import type { RepositoryAddress } from '../catalog/repository.ts'
import { type Carried, carry } from '../threads/carried-error.ts'
import type { PushResult } from './push.ts'
import { type Batch, runLane } from './push-lane.ts'

export interface PushWorkerData {
  batch: Batch
  cluster: string
  level: number
  repositories: readonly RepositoryAddress[]
}

export interface PushMessage {
  name: string
  result?: PushResult
  failure?: Carried
}

/** One more lane of a batch, in a thread of its own. */
async function work(port: MessagePort, data: PushWorkerData): Promise<void> {
  const target = {
    cluster: data.cluster,
    level: data.level,
    repositories: data.repositories.map(openRepository),
  }
  await runLane(data.batch, target, ({ name, result, error }) =>
    port.postMessage({
      name,
      ...(result && { result }),
      ...(error !== undefined && { failure: carry(error) }),
    } satisfies PushMessage),
  )
}

await work(parentPort!, workerData as PushWorkerData)
