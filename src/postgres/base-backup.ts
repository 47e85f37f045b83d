import pg from 'pg'
import { reasonOf } from '../errors.ts'
import { DATA_CORRUPTED, SUMMARIES_AWAITED, sessionError } from './base-backup-errors.ts'
import { type Lsn, lsn } from './lsn.ts'
import { uploadManifest } from './manifest-upload.ts'
import { connectReplication } from './replication.ts'
import type { ConnectionOptions } from './server.ts'

/** What is asked of a base backup, however it is fetched. */
export interface BaseBackupOptions {
  connection: ConnectionOptions
  /** As in server_version_num: 150018. */
  serverVersion: number
  label: string
  checkpoint: 'fast' | 'spread'
  /** Whether the WAL from start to stop comes along, at the end of the data directory's archive. */
  wal: boolean
  /** At most this many kilobytes a second; undefined for no limit. */
  maxRateKiB?: number | undefined
  /**
   * For an incremental backup, which servers from 17 on take: an open descriptor of the manifest of the one that it
   * builds upon, read from the beginning. It stays open.
   */
  parentManifest?: number | undefined
  /** What the server says beside, such as pages whose checksums are wrong. */
  onWarning: (text: string) => void
  /** The server's words while an incremental backup waits for its summaries of the WAL, every ten seconds. */
  onWaiting: (text: string) => void
  signal: AbortSignal
}

/** What is asked of the server, as plain data. */
export type BaseBackupRequest = Omit<BaseBackupOptions, 'onWarning' | 'onWaiting' | 'signal'>

/** A base backup as it arrives. The memory of data and manifest belongs to whoever gets them. */
export type BackupPart =
  /** The first part, where the source tells it. Else the label tells, which comes first in the data directory's archive. */
  | { kind: 'start'; start: BackupEnd }
  /** A tar archive begins: of a tablespace, or of the data directory, which comes last. */
  | { kind: 'archive'; tablespaceOid: string | undefined }
  | { kind: 'data'; bytes: Buffer }
  | { kind: 'manifest'; bytes: Buffer }
  /** The last part, where the source tells it. */
  | { kind: 'end'; stop: BackupEnd }

export interface BackupEnd {
  lsn: Lsn
  timeline: number
}

/** Messages are gathered into pieces of this many bytes: fewer turns, and the driver's own buffer is free again. */
const PIECE_BYTES = 1024 * 1024
/** The session is not read on while this much waits to be taken. */
const WAITING_BYTES = 8 * 1024 * 1024
/** Before 15 the server leaves the end mark of its archives to the client. */
const TERMINATES_ARCHIVES = 150_000
const END_MARK = Buffer.alloc(1024)

/**
 * Takes a base backup by the replication protocol, in a session of its own. Any number of tablespaces, nothing staged.
 * The server checks the pages that it sends, and reads those again that it caught half-written.
 *
 * @throws PgrecallError `connection` when the session cannot be had or is lost, `failed` when the server gives up, and
 *   the signal's reason
 * @see https://www.postgresql.org/docs/current/protocol-replication.html and basebackup.c, basebackup_copy.c
 */
export async function* baseBackup(options: BaseBackupOptions): AsyncGenerator<BackupPart> {
  options.signal.throwIfAborted()
  const client = await connectReplication(options.connection)
  const close = () => void client.end().catch(() => {})
  options.signal.addEventListener('abort', close, { once: true })
  client.on('notice', ({ code, message = '' }) => {
    if (code?.startsWith('01')) options.onWarning(message)
    else if (code === SUMMARIES_AWAITED) options.onWaiting(message)
  })
  try {
    options.signal.throwIfAborted()
    if (options.parentManifest !== undefined) await uploadManifest(client, options.parentManifest)
    yield* client.query(new BaseBackupQuery(baseBackupCommand(options), options)).parts()
  } catch (error) {
    options.signal.throwIfAborted()
    throw sessionError(error, { isIncremental: options.parentManifest !== undefined })
  } finally {
    options.signal.removeEventListener('abort', close)
    // In the middle of a backup this breaks the session off, which is what ends it on the server.
    await client.end().catch(() => {})
  }
}

/** The command, in the spelling of the server's version. */
export function baseBackupCommand(options: Omit<BaseBackupRequest, 'connection'>): string {
  const { serverVersion, label, checkpoint, wal, maxRateKiB, parentManifest } = options
  const quoted = `'${label.replaceAll("'", "''")}'`
  const rate = maxRateKiB === undefined ? [] : [`MAX_RATE ${maxRateKiB}`]
  if (serverVersion >= 150_000) {
    const list = [`LABEL ${quoted}`, `CHECKPOINT '${checkpoint}'`, `WAL ${wal}`, 'WAIT false', ...rate]
    if (parentManifest !== undefined) list.push('INCREMENTAL')
    return `BASE_BACKUP (${[...list, "MANIFEST 'yes'", "MANIFEST_CHECKSUMS 'SHA256'"].join(', ')})`
  }
  const words = [
    `LABEL ${quoted}`,
    ...(checkpoint === 'fast' ? ['FAST'] : []),
    ...(wal ? ['WAL'] : []),
    'NOWAIT',
    ...rate,
  ]
  const manifest = serverVersion >= 130_000 ? ["MANIFEST 'yes'", "MANIFEST_CHECKSUMS 'SHA256'"] : []
  return ['BASE_BACKUP', ...words, ...manifest].join(' ')
}

type Row = (string | null)[]

/**
 * The conversation about one BASE_BACKUP. Two result sets, where it starts and which tablespaces there are; then COPY
 * streams; then where it ends. From 15 there is one COPY whose messages say what they are, before there is one for
 * each archive and one for the manifest. The driver calls the `handle` methods.
 */
class BaseBackupQuery {
  readonly #command: string
  readonly #version: number
  readonly #onWarning: (text: string) => void
  readonly #results: Row[][] = []
  readonly #waiting: BackupPart[] = []
  #waitingBytes = 0
  #copies = 0
  #kind: 'data' | 'manifest' = 'data'
  #piece = Buffer.allocUnsafeSlow(PIECE_BYTES)
  #used = 0
  #over: { error?: unknown } | undefined
  #wake: () => void = () => {}
  #stream: { pause(): void; resume(): void } | undefined

  constructor(command: string, { serverVersion, onWarning }: BaseBackupOptions) {
    this.#command = command
    this.#version = serverVersion
    this.#onWarning = onWarning
  }

  async *parts(): AsyncGenerator<BackupPart> {
    for (;;) {
      for (let part = this.#waiting.shift(); part; part = this.#waiting.shift()) {
        if ('bytes' in part) this.#waitingBytes -= part.bytes.length
        if (this.#waitingBytes < WAITING_BYTES / 2) this.#stream?.resume()
        yield part
      }
      if (this.#over) break
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    if (this.#over.error !== undefined) throw this.#over.error
    yield { kind: 'end', stop: this.#endIn(2) }
  }

  submit(connection: pg.Connection): void {
    this.#stream = connection.stream as unknown as { pause(): void; resume(): void }
    connection.on('copyOutResponse', () => this.#beginCopy())
    connection.on('copyDone', () => this.#endCopy())
    connection.query(this.#command)
  }

  handleRowDescription(): void {
    this.#results.push([])
  }

  handleDataRow({ fields }: { fields: Row }): void {
    this.#results.at(-1)!.push(fields)
  }

  handleCommandComplete(): void {
    if (this.#results.length === 1) this.#give({ kind: 'start', start: this.#endIn(0) })
  }

  handleCopyData({ chunk }: { chunk: Buffer }): void {
    if (this.#version < TERMINATES_ARCHIVES) this.#take(chunk)
    else this.#message(String.fromCharCode(chunk[0]!), chunk.subarray(1))
  }

  handleError(error: unknown): void {
    if (error instanceof pg.DatabaseError && error.code === DATA_CORRUPTED && this.#results.length === 3) {
      this.#onWarning(`the server found damaged pages: ${reasonOf(error)}`)
      this.#finish({})
    } else this.#finish({ error })
  }

  handleReadyForQuery(): void {
    this.#finish({})
  }

  /** One of 15's typed messages; the remaining type tells of progress, which we count ourselves. */
  #message(type: string, content: Buffer): void {
    if (type === 'n') {
      const name = content.toString('utf8', 0, content.indexOf(0))
      this.#beginArchive(/^(\d+)\.tar/.exec(name)?.[1])
    } else if (type === 'm') {
      this.#hand()
      this.#kind = 'manifest'
    } else if (type === 'd') this.#take(content)
  }

  #beginCopy(): void {
    if (this.#version >= TERMINATES_ARCHIVES) return
    const spaces = this.#results[1] ?? []
    const space = spaces[this.#copies++]
    if (space) this.#beginArchive(space[0] ?? undefined)
    else this.#kind = 'manifest'
  }

  #endCopy(): void {
    if (this.#version < TERMINATES_ARCHIVES && this.#kind === 'data') this.#take(END_MARK)
    this.#hand()
  }

  #beginArchive(tablespaceOid: string | undefined): void {
    this.#hand()
    this.#kind = 'data'
    this.#give({ kind: 'archive', tablespaceOid })
  }

  /** Copies: the driver reuses its buffer for what comes next. */
  #take(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      const copied = bytes.copy(this.#piece, this.#used, at)
      this.#used += copied
      at += copied
      if (this.#used === PIECE_BYTES) this.#hand()
    }
  }

  #hand(): void {
    if (this.#used === 0) return
    this.#give({ kind: this.#kind, bytes: this.#piece.subarray(0, this.#used) })
    this.#waitingBytes += this.#used
    this.#piece = Buffer.allocUnsafeSlow(PIECE_BYTES)
    this.#used = 0
    if (this.#waitingBytes > WAITING_BYTES) this.#stream!.pause()
  }

  #give(part: BackupPart): void {
    this.#waiting.push(part)
    this.#wake()
  }

  #finish(over: { error?: unknown }): void {
    this.#over ??= over
    this.#wake()
  }

  /** Where the backup starts or ends, by one of the result sets. */
  #endIn(index: number): BackupEnd {
    const [position, timeline] = this.#results[index]?.[0] ?? []
    if (!position) throw new Error('the server did not say where the base backup starts and ends')
    return { lsn: lsn(position), timeline: Number(timeline) }
  }
}
