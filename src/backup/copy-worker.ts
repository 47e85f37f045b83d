import '../threads/compile-cache.ts'
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { helpToPress, PressHelper } from '../archive/frame-press.ts'
import { FRAME_BYTES } from '../archive/shard-writer.ts'
import { type Carried, carry } from '../threads/carried-error.ts'
import { BackupStore } from './backup-store.ts'
import { Copier } from './copier.ts'
import type { CopyAnswer, CopyItem, CopyRequest, CopyWorkerData } from './copy-job.ts'
import type { PageTrouble } from './page-check.ts'
import { type OpenShard, SHARD_FILES, ShardLine, type StoredShard, storeShard } from './shard.ts'

/** Beside answers, a busy worker is sent threads that have nothing left to do, to help it compress. */
export type CopyOrder = { answer: CopyAnswer } | { helper: MessagePort }
export type CopyMessage =
  | CopyRequest
  | { kind: 'stored'; shard: StoredShard; vanished: string[]; troubles: PageTrouble[] }
  | { kind: 'lost'; repository: string; error: Carried }
  | { kind: 'failed'; error: Carried }

/** Fills shards until there is nothing left to copy, then helps others. */
async function copy(port: MessagePort, data: CopyWorkerData): Promise<void> {
  const store = BackupStore.open(data.store, (repository, error) =>
    port.postMessage({ kind: 'lost', repository, error: carry(error) } satisfies CopyMessage),
  )
  const copier = new Copier(data)
  const helpers: PressHelper[] = []
  let onAnswer: (answer: CopyAnswer) => void = () => {}
  port.on('message', (order: CopyOrder) => {
    if ('helper' in order) helpers.push(new PressHelper(order.helper, data.codec, FRAME_BYTES))
    else onAnswer(order.answer)
  })
  const releaseHelpers = () => {
    for (const helper of helpers.splice(0)) helper.release()
  }
  const ask = (request: CopyRequest) =>
    new Promise<CopyAnswer>((resolve) => {
      onAnswer = resolve
      port.postMessage(request)
    })

  const line = new ShardLine()
  try {
    for (let job = await ask({ kind: 'shard' }); job; job = await ask({ kind: 'shard' })) {
      if ('help' in job) {
        releaseHelpers()
        await Promise.all([helpToPress(job.help), line.end()])
        continue
      }
      const { name, group, root, liveRoot, items: first } = job
      const found = copier.begin()
      const fill = async function* (shard: OpenShard) {
        for (let items: CopyItem[] | undefined = first; items; ) {
          for (const item of items) yield* copier.copy(shard, item, root, liveRoot)
          const isFull = shard.writer.plainBytes >= data.shardBytes || shard.files >= SHARD_FILES
          const more = isFull ? undefined : await ask({ kind: 'items', group })
          items = more && 'items' in more ? more.items : undefined
        }
      }
      const shard = { name, group, codec: data.codec }
      await line.add(async (onDrained) => {
        const options = { buffer: copier.buffer, helpers, onDrained }
        const stored = await storeShard(store, shard, fill, options)
        port.postMessage({ kind: 'stored', shard: stored, ...found } satisfies CopyMessage)
      })
      releaseHelpers()
    }
    await line.end()
  } finally {
    // Also one that came when there was no more shard to help with, and however this ends: an open port keeps a thread alive.
    releaseHelpers()
  }
}

if (parentPort) {
  const port = parentPort
  copy(port, workerData as CopyWorkerData)
    .catch((error) => port.postMessage({ kind: 'failed', error: carry(error) } satisfies CopyMessage))
    .finally(() => port.close())
}
