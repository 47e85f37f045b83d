import { read } from 'node:fs'
import { promisify } from 'node:util'
import type pg from 'pg'
import { PgrecallError, reasonOf } from '../errors.ts'

/** What PostgreSQL's own program sends at once. */
const PIECE_BYTES = 64 * 1024

/**
 * Gives the server the manifest of the backup that an incremental one is to build upon. The session keeps it, for the
 * BASE_BACKUP that follows.
 * @param client a session of the replication protocol, of 17 or later
 * @param manifest an open descriptor, read from the beginning
 * @throws whatever the server says of the manifest; PgrecallError `failed` when it cannot be read
 * @see https://www.postgresql.org/docs/current/protocol-replication.html: UPLOAD_MANIFEST
 */
export async function uploadManifest(client: pg.Client, manifest: number): Promise<void> {
  const upload = new ManifestUpload(manifest)
  client.query(upload)
  await upload.done
}

/** The driver has these methods; its type definitions do not have them. */
type CopyingConnection = pg.Connection & { sendCopyFromChunk(chunk: Buffer): void; endCopyFrom(): void }

/** The driver calls the `handle` methods. */
class ManifestUpload {
  readonly #manifest: number
  readonly #over = Promise.withResolvers<void>()
  #isOver = false

  constructor(manifest: number) {
    this.#manifest = manifest
  }

  get done(): Promise<void> {
    return this.#over.promise
  }

  submit(connection: pg.Connection): void {
    connection.query('UPLOAD_MANIFEST')
  }

  handleCopyInResponse(connection: CopyingConnection): void {
    this.#send(connection).catch((cause) => {
      const text = `the manifest of the backup that this one builds upon cannot be read: ${reasonOf(cause)}`
      this.handleError(new PgrecallError('failed', text, { cause }))
    })
  }

  handleCommandComplete(): void {}

  handleError(error: unknown): void {
    this.#isOver = true
    this.#over.reject(error)
  }

  handleReadyForQuery(): void {
    this.#isOver = true
    this.#over.resolve()
  }

  /** As fast as the server takes it, and until it has had enough. */
  async #send(connection: CopyingConnection): Promise<void> {
    const { stream } = connection
    for await (const piece of piecesOf(this.#manifest)) {
      if (this.#isOver) return
      connection.sendCopyFromChunk(piece)
      if (stream.writableNeedDrain) await Promise.race([drained(stream), this.done])
    }
    connection.endCopyFrom()
  }
}

/** Unlike a stream, it leaves the descriptor open, and where it is. */
async function* piecesOf(file: number): AsyncGenerator<Buffer> {
  for (let position = 0; ; ) {
    const room = Buffer.allocUnsafe(PIECE_BYTES)
    const { bytesRead } = await promisify(read)(file, room, 0, PIECE_BYTES, position)
    if (bytesRead === 0) return
    yield room.subarray(0, bytesRead)
    position += bytesRead
  }
}

function drained(stream: pg.Connection['stream']): Promise<void> {
  return new Promise((resolve) => stream.once('drain', resolve))
}
