import { parseCodec } from '../archive/codec.ts'
import type { BackupObject, BackupRecord } from '../catalog/backup-record.ts'
import { backupPrefix } from '../catalog/layout.ts'
import type { LogicalObject } from '../catalog/logical-record.ts'
import { pinIfAllowed } from '../catalog/pin.ts'
import type { Repository } from '../catalog/repository.ts'
import { indexName } from '../catalog/shard-index.ts'
import type { Events } from '../events.ts'
import type { AnyRecord } from './damage.ts'
import { storedSpans } from './missing-wal.ts'
import type { ReadingPlan, ShelfSpan } from './plan-reading.ts'
import type { ReadJob, ReadResult, ShardJob, WalJob } from './read-job.ts'
import type { Reading } from './read-side-by-side.ts'
import type { Stock } from './stock.ts'
import { plainNameOf, readAnyRecord } from './twin.ts'

/** What one thread reads of WAL at a time. */
const SEGMENTS_AT_ONCE = 32n

/** Is told what came of each job. */
export interface Findings {
  onRecord: (record: AnyRecord) => void
  onDamagedRecord: (id: string, error: unknown) => void
  onObject: (record: AnyRecord, index: number, result: ReadResult) => void
  onWal: (span: ShelfSpan, first: bigint, last: bigint, result: ReadResult) => void
  /** Between two jobs. */
  onPause: () => Promise<void>
}

export interface ReadingsContext {
  cluster: string
  decode: boolean
  events: Events
  signal: AbortSignal
  now: () => Date
}

/**
 * What is to be read, one after the other: the objects of each backup, which is pinned until all of it is read, and the WAL, for
 * which the oldest backup is all the time, by which retention leaves alone what comes behind it.
 * @throws PgrecallError `repository`
 */
export async function* readingsOf(
  repository: Repository,
  { chosen, catalog }: Stock,
  plan: ReadingPlan,
  findings: Findings,
  context: ReadingsContext,
): AsyncGenerator<Reading> {
  await using pins = new Pins(repository, context)
  const oldest = catalog.backups[0]
  if (oldest && plan.spans.length > 0) await pins.pin(oldest.id, Number.POSITIVE_INFINITY)
  for (const { id } of chosen) {
    const indexes = plan.objects.get(id) ?? []
    const record = await readAnyRecord(repository, context.cluster, id).catch((error) => {
      findings.onDamagedRecord(id, error)
      return undefined
    })
    if (!record) continue
    findings.onRecord(record)
    if (indexes.length === 0) continue
    const pin = await pins.pin(id, indexes.length)
    for (const index of indexes) {
      await findings.onPause()
      yield {
        job: jobOf(context, record, index),
        onResult: (result) => {
          findings.onObject(record, index, result)
          pin.oneLess()
        },
      }
    }
  }
  for (const span of plan.spans) yield* walReadings(catalog, span, findings, context)
}

async function* walReadings(
  { wal, walSegmentBytes, systemIdentifier }: Stock['catalog'],
  span: ShelfSpan,
  findings: Findings,
  { cluster, decode }: ReadingsContext,
): AsyncGenerator<Reading> {
  const end = endOfRun(wal, span, walSegmentBytes)
  for (let first = span.first; first <= span.last; first += SEGMENTS_AT_ONCE) {
    await findings.onPause()
    const last = first + SEGMENTS_AT_ONCE - 1n < span.last ? first + SEGMENTS_AT_ONCE - 1n : span.last
    const job: WalJob = {
      ...{ kind: 'wal', cluster, timeline: span.timeline, first, last, segmentBytes: walSegmentBytes },
      ...{ decode, goesOn: last < end, systemIdentifier },
    }
    yield { job, onResult: (result) => findings.onWal(span, first, last, result) }
  }
}

function endOfRun(wal: Stock['catalog']['wal'], span: ShelfSpan, segmentBytes: number): bigint {
  const runs = storedSpans(wal, span.timeline, segmentBytes)
  return runs.find(({ first, last }) => first <= span.last && span.last <= last)?.last ?? span.last
}

function jobOf({ cluster, decode }: ReadingsContext, record: AnyRecord, index: number): ReadJob {
  const object = record.objects[index] as BackupObject | LogicalObject
  const key = backupPrefix(cluster, record.id) + object.name
  if (!decode || record.method === 'logical' || object.kind !== 'shard')
    return { kind: 'object', key, object, decode: decode && object.kind !== 'text' }
  return shardJob(cluster, record, object, key)
}

function shardJob(cluster: string, record: BackupRecord, object: BackupObject, key: string): ShardJob {
  const codec = parseCodec(record.codec)
  const name = typeof codec === 'string' ? undefined : indexName(plainNameOf(object.name), codec)
  const index = record.objects.find((other) => plainNameOf(other.name) === name)
  return {
    kind: 'shard',
    key,
    object,
    index: index && { key: backupPrefix(cluster, record.id) + index.name, object: index },
    backup: {
      startLsn: record.start.lsn,
      stopLsn: record.stop.lsn,
      stopFile: record.stop.walFile,
      systemIdentifier: record.systemIdentifier,
      hasChecksums: record.dataChecksums,
      damaged: record.damaged.map(({ path }) => path),
    },
  }
}

/** The pins of what is being read. */
class Pins implements AsyncDisposable {
  readonly #repository: Repository
  readonly #context: ReadingsContext
  readonly #held = new Set<AsyncDisposable>()

  constructor(repository: Repository, context: ReadingsContext) {
    this.#repository = repository
    this.#context = context
  }

  /** @param results after how many it is let go */
  async pin(id: string, results: number): Promise<{ oneLess: () => void }> {
    const { cluster, now, events } = this.#context
    const pin = await pinIfAllowed(this.#repository.storage, cluster, id, 'verify', now, (text) =>
      events.emit('detail', { text }),
    )
    this.#held.add(pin)
    let left = results
    return {
      oneLess: () => {
        if (--left > 0) return
        this.#held.delete(pin)
        // One that stays behind is swept.
        Promise.resolve(pin[Symbol.asyncDispose]()).catch(() => {})
      },
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const pin of this.#held) await pin[Symbol.asyncDispose]()
  }
}
