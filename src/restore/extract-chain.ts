import { dirname, join } from 'node:path'
import { addressOf } from '../catalog/open-repository.ts'
import { isSealed } from '../catalog/sealed-object.ts'
import { systemCode } from '../errors.ts'
import { FileSet } from '../reconstruction/file-set.ts'
import type { BaseShard, Reconstruction } from '../reconstruction/reconstruction.ts'
import { unwrap } from '../threads/carried-error.ts'
import { runCrew, workerScript } from '../threads/crew.ts'
import { FolderMaker, GroupPlaces } from './chain-folders.ts'
import type { ChainJob, RestoredFile } from './chain-shard.ts'
import { type ChainMessage, type ChainWorkerData, COUNTER, COUNTERS } from './chain-worker.ts'
import { CONTROL_ASIDE } from './data-directory.ts'
import { type Extracted, type ExtractOptions, rootsOf, SYNC_BYTES } from './extract-pool.ts'
import { cannotWrite } from './extract-shard.ts'
import type { RestorePlan } from './plan.ts'
import { FilesystemSync } from './sync-filesystem.ts'

export type { RestoredFile } from './chain-shard.ts'

export interface ExtractChainOptions extends ExtractOptions {
  /** Of the plan's chain. */
  reconstruction: Reconstruction
  /** Whether there may be files in the target, of which what is right is left alone. No link may be among them. */
  delta: boolean
  /** Databases, by their oids, whose relations become files of zeros. */
  placeholders: readonly string[]
  /** Hears of every file but WAL, once, in any order, some at a time. */
  onFiles: (files: readonly RestoredFile[]) => void
}

/**
 * Writes the files of a chain of backups as its newest link has them, straight from the repository and each of them once,
 * `jobs` shards side by side. What is read whole is checked against its stored sum, every member against its own.
 * @returns bytes that were written, and bytes that were there already; holes are neither
 * @throws PgrecallError `damaged`, `failed`
 */
export async function extractChain(
  plan: RestorePlan,
  options: ExtractChainOptions,
): Promise<Extracted & { writtenBytes: number; keptBytes: number }> {
  const { repository, reconstruction, events, signal, owner, delta, placeholders } = options
  const roots = rootsOf(plan)
  const folders = makeFolders(plan, reconstruction, owner)
  const filesystems = await FilesystemSync.of(roots)
  const counters = new BigInt64Array(new SharedArrayBuffer(COUNTERS * 8))
  const count = (counter: number) => Number(Atomics.load(counters, counter))
  const total = reconstruction.bytes
  let syncedBytes = 0
  const report = () => {
    const bytes = count(COUNTER.bytes)
    events.emit('progress', { task: 'Restoring', bytes, total, items: count(COUNTER.files) })
    const written = count(COUNTER.written)
    if (written - syncedBytes < SYNC_BYTES) return
    filesystems?.start()
    syncedBytes = written
  }
  const { shards } = reconstruction
  const isAnySealed = shards.some(({ key }) => isSealed(key))
  const data: ChainWorkerData = {
    repository: await addressOf(repository, isAnySealed ? 'read' : 'write'),
    shards,
    owner,
    syncFiles: !filesystems,
    delta,
    placeholders,
    counters,
  }
  const queue = reconstruction.baseShards()
  const timer = setInterval(report, 100)
  try {
    await runCrew(workerScript('chain-worker', import.meta.url), Math.min(options.jobs, shards.length), {
      data: () => data,
      onMessage: (message: ChainMessage, worker, fail) => {
        if (message.kind === 'failed') fail(unwrap(message.error))
        else if (message.kind === 'files') options.onFiles(message.files)
        else worker.postMessage(jobOf(plan, reconstruction, queue.next().value))
      },
      onStop: () => Atomics.store(counters, COUNTER.stop, 1n),
      signal,
    })
    report()
  } finally {
    clearInterval(timer)
    events.emit('progressEnd', { task: 'Restoring' })
  }
  const [writtenBytes, keptBytes] = [count(COUNTER.written), count(COUNTER.kept)]
  return { files: new FileSet(), folders, filesystems, writtenBytes, keptBytes }
}

/** Before anything is written, so that threads need not look: every path of the newest link is safe, and its folder is there. */
function makeFolders(
  plan: RestorePlan,
  reconstruction: Reconstruction,
  owner: ExtractOptions['owner'],
): Set<string> {
  const places = new GroupPlaces(plan)
  const maker = new FolderMaker(rootsOf(plan), owner)
  try {
    for (const { group, path, mode } of reconstruction.folders) {
      places.requireSafe(group, path, 'directory')
      maker.make(join(places.rootOf(group), path), mode)
    }
    for (const { group, path } of reconstruction.places()) {
      places.requireSafe(group, path, 'file')
      maker.make(dirname(join(places.rootOf(group), path)))
    }
  } catch (error) {
    throw systemCode(error)?.startsWith('E') ? cannotWrite(plan.dataDirectory, error) : error
  }
  return maker.made
}

function jobOf(
  plan: RestorePlan,
  { shards }: Reconstruction,
  base: BaseShard | undefined,
): ChainJob | undefined {
  if (!base) return undefined
  const { group } = shards[base.shard]!
  const renamed: Record<string, string> = group === 'base' ? { 'global/pg_control': CONTROL_ASIDE } : {}
  return { ...base, root: new GroupPlaces(plan).rootOf(group), renamed }
}
