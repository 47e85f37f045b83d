import type { Codec } from '../archive/codec.ts'
import type { Events } from '../events.ts'
import type { BackupEnd, BaseBackupRequest } from '../postgres/base-backup.ts'
import { findPgBasebackup } from '../postgres/pg-basebackup.ts'
import { unwrap } from '../threads/carried-error.ts'
import { runCrew, workerScript } from '../threads/crew.ts'
import type { BackupStore } from './backup-store.ts'
import type { PageRules, PageTrouble } from './page-check.ts'
import { SHARD_FILES, type StoredShard } from './shard.ts'
import type { RelationFacts } from './stream-increment.ts'
import type { Intake } from './stream-intake.ts'
import { keepManifest } from './stream-parent.ts'
import {
  STREAM_COUNTER,
  type StreamMessage,
  type StreamSource,
  type StreamWorkerData,
} from './stream-worker.ts'

/** Servers before this send no manifest, and the program does not say where the backup ends. */
const SENDS_MANIFEST = 130_000

export interface StreamOptions {
  source: StreamSource
  asked: Omit<BaseBackupRequest, 'parentManifest'>
  store: BackupStore
  codec: Codec
  /** How the pages of relations are checked; undefined where they have no checksums. */
  pages: PageRules | undefined
  /** Of an incremental backup; undefined for a full one. */
  increment: StreamedIncrement | undefined
  shardBytes: number
  /** How long the server may wait for its archiver at the end; the program makes it wait when no WAL comes along. */
  archiveTimeoutMs: number
  /** About how much will come, for the progress; undefined when that is not known. */
  totalBytes: number | undefined
  task: string
  events: Events
  signal: AbortSignal
}

export interface StreamedIncrement extends RelationFacts {
  /** Of the backup that it builds upon, plain. */
  manifest: () => AsyncIterable<Buffer>
  /** Asked while the first files arrive. @throws when a backup that begins there cannot be trusted */
  requireFit: (start: BackupEnd) => Promise<void>
}

export interface Streamed extends Intake {
  shards: StoredShard[]
  /** Pages whose checksum is wrong, by file in the data directory. */
  troubles: PageTrouble[]
  /** What the server said beside, such as damaged pages. */
  warnings: string[]
}

/**
 * Chooses how the base backup is fetched: with PostgreSQL's own program where that can write to its output, which is when
 * the cluster has no tablespaces of its own, and is on this host in a version that the server's fits. Otherwise we speak
 * the protocol.
 * @param env the process's environment, where the program is looked for and libpq finds its settings
 */
export async function chooseSource(
  { version, tablespaces }: { version: number; tablespaces: readonly unknown[] },
  env: Record<string, string | undefined>,
): Promise<StreamSource> {
  if (tablespaces.length > 0 || version < SENDS_MANIFEST) return { kind: 'protocol' }
  const program = await findPgBasebackup(Math.floor(version / 10_000), env)
  return program ? { kind: 'program', program, env: { ...env } } : { kind: 'protocol' }
}

/**
 * Fetches a base backup into shards, in a thread of its own. When it resolves, all of it but `backup_label` and
 * `pg_control` is durable; these are in the answer.
 * @throws PgrecallError as `takeIn`, `baseBackup` and `pgBasebackup` throw, and the signal's reason
 */
export async function copyStream(options: StreamOptions): Promise<Streamed> {
  const { task, events, increment, totalBytes: total } = options
  await using manifest = increment && (await keepManifest(increment.manifest()))
  const counters = new BigInt64Array(new SharedArrayBuffer(2 * 8))
  const stop = new Int32Array(new SharedArrayBuffer(4))
  const shards: StoredShard[] = []
  const warnings: string[] = []
  const troubles: PageTrouble[] = []
  const store = await options.store.address()
  let intake: Intake | undefined
  let isFit: Promise<void> | undefined
  const report = () =>
    events.emit('progress', {
      task,
      bytes: Number(Atomics.load(counters, STREAM_COUNTER.bytes)),
      total,
      items: Number(Atomics.load(counters, STREAM_COUNTER.files)),
    })
  const timer = setInterval(report, 100)
  try {
    await runCrew(workerScript('stream-worker', import.meta.url), 1, {
      data: (): StreamWorkerData => ({
        source: options.source,
        asked: manifest ? { ...options.asked, parentManifest: manifest.fd } : options.asked,
        store,
        codec: options.codec,
        pages: options.pages,
        relations: increment && relationFacts(increment),
        shardBytes: options.shardBytes,
        shardFiles: SHARD_FILES,
        archiveTimeoutMs: options.archiveTimeoutMs,
        counters,
        stop,
      }),
      onMessage: (message: StreamMessage, _worker, fail) => {
        if (message.kind === 'failed') fail(unwrap(message.error))
        else if (message.kind === 'begun') {
          isFit = increment?.requireFit(message.start)
          isFit?.catch(fail)
        } else if (message.kind === 'lost') options.store.tell(message.repository, unwrap(message.error))
        else if (message.kind === 'stored') shards.push(message.shard)
        else if (message.kind === 'warning') warnings.push(message.text)
        else if (message.kind === 'waiting') events.emit('step', { text: `The server says: ${message.text}` })
        else if (message.kind === 'trouble') troubles.push(message.trouble)
        else intake = message.intake
      },
      onStop: () => {
        Atomics.store(stop, 0, 1)
        Atomics.notify(stop, 0)
      },
      signal: options.signal,
    })
    await isFit
    report()
  } finally {
    clearInterval(timer)
    events.emit('progressEnd', { task })
  }
  if (!intake) throw new Error('the receiving thread ended without an answer')
  shards.sort((a, b) => (a.name < b.name ? -1 : 1))
  // A message carries a buffer over as plain bytes.
  return { ...intake, control: Buffer.from(intake.control), shards, troubles, warnings }
}

/** Without the rest, which no thread can be given. */
function relationFacts({ blockBytes, relationSegmentBlocks }: RelationFacts): RelationFacts {
  return { blockBytes, relationSegmentBlocks }
}
