import '../threads/compile-cache.ts'
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { FRAME_BYTES } from '../archive/shard-writer.ts'
import { BackupStore } from '../backup/backup-store.ts'
import { type OpenShard, storeShard } from '../backup/shard.ts'
import { openRepository } from '../catalog/open-repository.ts'
import { PgrecallError } from '../errors.ts'
import { type FinalFile, finalFiles } from '../reconstruction/final-files.ts'
import { carry } from '../threads/carried-error.ts'
import { COUNTER, type RewriteData, type RewriteJob, type RewriteMessage } from './rewrite-job.ts'

async function rewrite(
  port: MessagePort,
  { store, repository, codec, shards, counters }: RewriteData,
): Promise<void> {
  const post = (message: RewriteMessage) => port.postMessage(message)
  const next = () =>
    new Promise<RewriteJob | undefined>((resolve) => {
      port.once('message', resolve)
      post({ kind: 'next' })
    })
  const links = openRepository(repository)
  // There is only one repository: what it fails with ends the work anyway.
  const target = BackupStore.open(store, () => {})
  const buffer = Buffer.allocUnsafeSlow(FRAME_BYTES)
  const onBytes = (count: number) => {
    if (Atomics.load(counters, COUNTER.stop) !== 0n)
      throw new PgrecallError('interrupted', 'the consolidation was stopped')
    Atomics.add(counters, COUNTER.bytes, BigInt(count))
  }
  for (let job = await next(); job; job = await next()) {
    const { parts, group, name } = job
    const fill = async function* (shard: OpenShard) {
      for (const part of parts) {
        for await (const file of finalFiles(part, shards, links)) {
          yield* addFile(shard, file, onBytes)
          Atomics.add(counters, COUNTER.files, 1n)
        }
      }
    }
    post({ kind: 'stored', shard: await storeShard(target, { name, group, codec }, fill, { buffer }) })
  }
}

async function* addFile(
  { writer, add }: OpenShard,
  file: FinalFile,
  onBytes: (count: number) => void,
): AsyncGenerator<Buffer> {
  const { path, size, modifiedMs, mode, uid, gid } = file
  const content = file.content()
  let sha256 = ''
  const pieces = async function* () {
    for (;;) {
      const step = await content.next()
      if (step.done) {
        sha256 = step.value
        return
      }
      onBytes(step.value.length)
      yield step.value
    }
  }
  const member = { path, type: 'file' as const, size, mode, mtime: modifiedMs / 1000, uid, gid }
  const offset = yield* writer.memberFrom(member, pieces())
  // Nobody goes on from an interrupted consolidation.
  add({ path, size, modifiedMs, sha256, offset }, false)
}

if (parentPort) {
  const port = parentPort
  rewrite(port, workerData as RewriteData)
    .catch((error) => port.postMessage({ kind: 'failed', error: carry(error) } satisfies RewriteMessage))
    .finally(() => port.close())
}
