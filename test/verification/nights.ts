import { Opener } from '../../src/archive/age.ts'
import { backupPrefix, walKey } from '../../src/catalog/layout.ts'
import { readVerifications, type Verifications } from '../../src/catalog/verification-file.ts'
import { Events } from '../../src/events.ts'
import { segmentName } from '../../src/postgres/wal-file.ts'
import { FileSet } from '../../src/reconstruction/file-set.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { FoundFaults } from '../../src/verification/found-faults.ts'
import { planReading, type Share } from '../../src/verification/plan-reading.ts'
import { type Fault, nothingRead, type ReadJob, type ReadResult } from '../../src/verification/read-job.ts'
import { readingsOf } from '../../src/verification/readings.ts'
import { dropRemoved } from '../../src/verification/removed-meanwhile.ts'
import { takeStock } from '../../src/verification/stock.ts'
import { verifyOthers } from '../../src/verification/verify-others.ts'
import { SEGMENT } from '../catalog/stored.ts'
import { plainRepository } from '../lab/repositories.ts'

export const shardKey = (id: string) => `${backupPrefix('main', id)}base.0001.tar.zst`
export const segmentKey = (number: number) => walKey('main', segmentName(1, BigInt(number), SEGMENT))

/** Verifications of a repository, night after night, in which only the reading itself is made up. */
export class Nights {
  readonly storage: Storage
  /** What is damaged, by the key. */
  readonly damaged = new Map<string, Omit<Fault, 'key'>>()
  /** Keys that were read last. */
  read: string[] = []
  /** What happens between the look at what there is and the reading, and before each job. */
  meanwhile: () => Promise<void> = async () => {}
  beforeJob: (job: ReadJob) => Promise<void> = async () => {}
  /** Whether this host has no key for the WAL. */
  isKeyless = false
  now = new Date('2026-11-20T04:30:00Z')

  constructor(storage: Storage) {
    this.storage = storage
  }

  async verify(share: Share = 'all', { decode = false } = {}): Promise<FoundFaults> {
    this.now = new Date(this.now.getTime() + 24 * 60 * 60 * 1000)
    const context = { events: new Events(), signal: new AbortController().signal, now: () => this.now }
    const plain = plainRepository('local', this.storage)
    const opener = new Opener(async () => ['a key'])
    const repository = this.isKeyless ? plain : { ...plain, keys: { ...plain.keys, opener } }
    const request = { cluster: 'main', ids: [], isLoading: false, decode }
    const stock = await takeStock(repository, request, context)
    const plan = planReading(stock.objects, stock.spans, share)
    const found = new FoundFaults('main', stock, plan, context, {})
    this.read = []
    await this.meanwhile()
    for await (const { job, onResult } of readingsOf(repository, stock, plan, found, {
      ...request,
      ...context,
    }))
      onResult(await this.#look(job))
    await verifyOthers(repository, stock, found, context.signal)
    await dropRemoved(repository, stock, found, context.signal)
    await found.remember()
    return found
  }

  /** A verification of the same, on another host. */
  another(): Nights {
    const another = new Nights(this.storage)
    for (const [key, fault] of this.damaged) another.damaged.set(key, fault)
    another.now = this.now
    return another
  }

  async known(): Promise<Verifications> {
    return (await readVerifications(this.storage, 'main'))!
  }

  /** Keys of what is remembered as damaged. */
  async remembered(): Promise<string[]> {
    return (await this.known()).damaged.map(({ key }) => key)
  }

  async #look(job: ReadJob): Promise<ReadResult> {
    await this.beforeJob(job)
    const keys =
      job.kind === 'wal'
        ? Array.from({ length: Number(job.last - job.first) + 1 }, (_, at) =>
            segmentKey(Number(job.first) + at),
          )
        : [job.key]
    this.read.push(...keys)
    const missing: Fault[] = []
    for (const key of keys)
      if (!(await this.storage.stat(key))) missing.push({ key, reason: 'it is missing' })
    const faults = keys.flatMap((key) => {
      const fault = this.isKeyless && job.kind === 'wal' ? undefined : this.damaged.get(key)
      const isSeen = fault && (!fault.isContent || (job.kind === 'wal' ? job.decode : job.kind === 'shard'))
      return isSeen ? [{ key, ...fault }] : []
    })
    return {
      ...nothingRead(),
      sizeOnly: this.isKeyless && job.kind === 'wal' ? keys.length : 0,
      objects: keys.length,
      faults: [...missing, ...faults],
      ...(job.kind === 'shard' && { files: new FileSet().facts() }),
    }
  }
}
