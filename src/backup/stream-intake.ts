import { createHash } from 'node:crypto'
import type { Codec } from '../archive/codec.ts'
import type { TarMember } from '../archive/tar.ts'
import { pathInCluster } from '../catalog/layout.ts'
import { PgrecallError } from '../errors.ts'
import { type BackupLabel, parseBackupLabel } from '../postgres/backup-label.ts'
import type { BackupEnd, BackupPart } from '../postgres/base-backup.ts'
import type { Lsn } from '../postgres/lsn.ts'
import { parseWalFile } from '../postgres/wal-file.ts'
import type { BackupStore } from './backup-store.ts'
import { CONTROL_FILE } from './scan.ts'
import { type OpenShard, ShardLine, type StoredShard, shardName, storeShard } from './shard.ts'
import { ArrivingIncrement, incrementedFile, type RelationFacts } from './stream-increment.ts'
import { Arrivals, endInManifest, isForServerOnly } from './stream-manifest.ts'
import {
  type ArrivingMember,
  arrivingMembers,
  type FileObserver,
  type OtherPart,
  writeArriving,
} from './stream-members.ts'

export interface IntakeOptions {
  store: BackupStore
  codec: Codec
  /** A shard is closed when its plain bytes reach this, or when it has so many files. */
  shardBytes: number
  shardFiles: number
  /** One frame long, reused. */
  buffer: Buffer
  /** Of an incremental backup; undefined for a full one. */
  relations: RelationFacts | undefined
  /**
   * For each file that becomes part of the cluster.
   * @param path as in its shard; of an incremental one that of the file for which it stands
   * @param start where the backup began
   */
  observe: (group: string, path: string, start: Lsn) => FileObserver | undefined
  /** Called often, with what was read since the last call. */
  onProgress: (bytes: number, files: number) => void
  /** It is known where the backup began; before the first file. */
  onStart: (start: BackupEnd) => void
  onShard: (shard: StoredShard) => void
  /** `pg_control` begins to arrive, the last of the cluster's files. */
  onControl: () => void
  signal: AbortSignal
}

/** A base backup that has arrived whole. All but these small parts is in shards, and durable. */
export interface Intake {
  label: string
  start: BackupLabel
  stop: BackupEnd
  control: Buffer
  /** Whose `pg_control` is on the server. */
  owner: { uid: number; gid: number }
  /** How many blocks have come in incremental files. */
  changedBlocks: number
}

/** What is held back of the data directory, for the last shard or for nobody. */
const LABEL = 'backup_label'
const MANIFEST = 'backup_manifest'

/**
 * Puts a base backup into shards while it arrives, one shard at a time: `base`, each tablespace, and `wal`. The next one
 * is filled while the last one is on its way to the disk.
 *
 * @throws PgrecallError `failed` when the base backup is not whole, `damaged` when it is not what the server's manifest
 *   says, whatever its source or the storage throws, and the signal's reason
 */
export async function takeIn(parts: AsyncIterable<BackupPart>, options: IntakeOptions): Promise<Intake> {
  const sorter = new Sorter(options)
  const members = sorter.sort(arrivingMembers(parts, (part) => sorter.other(part)))
  const numbers = new Map<string, number>()
  const line = new ShardLine()
  try {
    for (let next = await members.next(); !next.done; ) {
      options.signal.throwIfAborted()
      const { group } = next.value
      const number = (numbers.get(group) ?? 0) + 1
      numbers.set(group, number)
      const fill = async function* (shard: OpenShard): AsyncGenerator<Buffer> {
        for (; !next.done && next.value.group === group; next = await members.next()) {
          const { plainBytes } = shard.writer
          if (plainBytes >= options.shardBytes || shard.files >= options.shardFiles) return
          yield* write(next.value, shard, sorter, options)
        }
      }
      const shard = { name: shardName(group, number, options.codec), group, codec: options.codec }
      await line.add(async (onDrained) => {
        const { store, buffer, signal } = options
        options.onShard(await storeShard(store, shard, fill, { buffer, signal, onDrained }))
      })
    }
    await line.end()
  } finally {
    await members.return(undefined)
    await line.end().catch(() => {})
  }
  return sorter.result()
}

async function* write(
  { member, group, content }: ArrivingMember,
  { writer, add }: OpenShard,
  sorter: Sorter,
  options: IntakeOptions,
): AsyncGenerator<Buffer> {
  if (member.type === 'directory') {
    yield* writer.member(member)
    return
  }
  const { onProgress, signal } = options
  const sum = createHash('sha256')
  const observer = group === 'wal' ? undefined : observerOf(member, group, sorter.start, options)
  let position = 0
  const offset = yield* writeArriving(writer, member, content, (bytes) => {
    signal.throwIfAborted()
    sum.update(bytes)
    observer?.take(bytes, position)
    position += bytes.length
    onProgress(bytes.length, 0)
  })
  const sha256 = sum.digest('hex')
  const { changedBlocks = 0, ...seen } = observer?.end() ?? {}
  const { path, size } = member
  const modifiedMs = member.mtime * 1000
  // Not settled: an archive has times in whole seconds.
  add({ path, size, modifiedMs, sha256, offset, ...seen }, false)
  if (group !== 'wal') sorter.arrivals.add(pathInCluster(group, path), size, sha256)
  sorter.changedBlocks += changedBlocks
  onProgress(0, 1)
}

function observerOf(
  member: TarMember,
  group: string,
  start: Lsn,
  { relations, observe }: IntakeOptions,
): FileObserver | undefined {
  const original = relations && incrementedFile(member)
  return original === undefined
    ? observe(group, member.path, start)
    : new ArrivingIncrement(member, relations!, observe(group, original, start))
}

/** Says which members go into shards, and of which group; keeps the few that do not. */
class Sorter {
  readonly arrivals = new Arrivals()
  changedBlocks = 0
  #label: { text: string; start: BackupLabel } | undefined
  #control: { bytes: Buffer; member: TarMember } | undefined
  #manifest: Buffer[] = []
  #start: Lsn | undefined
  #stop: BackupEnd | undefined
  readonly #options: Pick<IntakeOptions, 'onStart' | 'onControl'>

  constructor(options: Pick<IntakeOptions, 'onStart' | 'onControl'>) {
    this.#options = options
  }

  async *sort(members: AsyncIterable<ArrivingMember>): AsyncGenerator<ArrivingMember, undefined> {
    for await (const arriving of members) {
      const { member, group, content } = arriving
      const { path } = member
      if (member.type === 'symlink') continue
      if (group !== 'base') yield arriving
      else if (path === LABEL) {
        this.#label = parsed(await this.#keep(member, content.whole()))
        this.#begin({ lsn: this.#label.start.start, timeline: this.#label.start.timeline })
      } else if (path === CONTROL_FILE) {
        this.#options.onControl()
        this.#control = { bytes: await this.#keep(member, content.whole()), member }
      } else if (path === MANIFEST) this.#manifest.push(await content.whole())
      else if (isForServerOnly(path)) continue
      else if (member.type === 'directory' || !path.startsWith('pg_wal/')) yield arriving
      // The other files there, archive_status/*.done, only say to this server's archiver what it has done.
      else if (parseWalFile(path.slice('pg_wal/'.length))) yield { ...arriving, group: 'wal' }
    }
  }

  other(part: OtherPart): void {
    if (part.kind === 'manifest') this.#manifest.push(part.bytes)
    else if (part.kind === 'start') this.#begin(part.start)
    else this.#stop = part.stop
  }

  #begin(start: BackupEnd): void {
    if (this.#start === undefined) this.#options.onStart(start)
    this.#start = start.lsn
  }

  /** Known before the first file, by the source or by the label. */
  get start(): Lsn {
    if (this.#start === undefined) throw new Error('the base backup does not say where it starts')
    return this.#start
  }

  /** Checks that it is all there, and what the server says that it sent. */
  result(): Intake {
    if (!this.#label || !this.#control) {
      throw new PgrecallError('failed', `the base backup came without ${this.#label ? CONTROL_FILE : LABEL}`)
    }
    if (this.#manifest.length > 0) this.arrivals.compare(this.#manifest)
    const stop = this.#stop ?? endInManifest(this.#manifest)
    if (!stop) throw new PgrecallError('failed', 'the base backup does not say where it ends')
    const { text: label, start } = this.#label
    const { bytes: control, member } = this.#control
    const owner = { uid: member.uid, gid: member.gid }
    return { label, start, stop, control, owner, changedBlocks: this.changedBlocks }
  }

  async #keep(member: TarMember, content: Promise<Buffer>): Promise<Buffer> {
    const bytes = await content
    this.arrivals.add(member.path, bytes.length, createHash('sha256').update(bytes).digest('hex'))
    return bytes
  }
}

function parsed(bytes: Buffer): { text: string; start: BackupLabel } {
  const text = bytes.toString('utf8')
  return { text, start: parseBackupLabel(text) }
}
