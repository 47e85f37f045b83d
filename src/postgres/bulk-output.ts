import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { OutputRing } from './output-ring.ts'

/**
 * Whoever reads as fast as 4 KiB are written is woken for each of them. After a short rest several have come together, in the
 * connection's own memory, which holds what comes in a millisecond.
 */
const REST_MS = 0.2
const FEW_BYTES = 16 * 1024
const NEVER_WOKEN = new Int32Array(new SharedArrayBuffer(4))

/**
 * What a program gives out, in large pieces. `pg_dump` writes 4 KiB at a time, and what Node makes of a child's output takes
 * fresh memory of 64 KiB for each of these, which keeps the garbage collector busy. So a connection is made through a folder
 * that nobody else can enter, whose one end the program gets as its output, and whose other end is read into the same memory
 * again and again. Where no such connection can be had, it is the child's own output, gathered.
 *
 * @see https://nodejs.org/api/net.html#new-netsocketoptions `onread`
 */
export class BulkOutput implements Disposable {
  readonly #ring: OutputRing
  readonly #ends: { program: Socket; own: Socket } | undefined

  private constructor(ring: OutputRing, ends?: { program: Socket; own: Socket }) {
    this.#ring = ring
    this.#ends = ends
  }

  static async open(): Promise<BulkOutput> {
    const ring = new OutputRing()
    // No folder for temporary files, or one whose path is too long for a socket.
    const ends = await connectedEnds(ring).catch(() => undefined)
    return new BulkOutput(ring, ends)
  }

  /** What the program is started with, as its standard output. */
  get forProgram(): Socket | 'pipe' {
    return this.#ends?.program ?? 'pipe'
  }

  /**
   * @param stdout of the program that was started; null when it has the connection
   * @returns pieces, each valid until the next one is asked for
   * @throws what the output is cut off by
   */
  read(stdout: Readable | null): AsyncGenerator<Buffer> {
    const ring = this.#ring
    const { own, program } = this.#ends ?? {}
    // As long as this process has it too, there is no end.
    program?.destroy()
    if (!stdout) return ring.read(() => own!.resume())
    endWith(stdout, ring)
    return gathered(stdout, ring)
  }

  [Symbol.dispose](): void {
    this.#ends?.program.destroy()
    this.#ends?.own.destroy()
  }
}

async function connectedEnds(ring: OutputRing): Promise<{ program: Socket; own: Socket }> {
  const folder = await mkdtemp(join(tmpdir(), 'pgrecall-'))
  const server = createServer({ pauseOnConnect: true })
  try {
    const path = join(folder, 'output')
    await once(server.listen(path), 'listening')
    const callback = (bytes: number) => {
      ring.advance(bytes)
      if (bytes < FEW_BYTES) Atomics.wait(NEVER_WOKEN, 0, 0, REST_MS)
      return !ring.isFull
    }
    const own = connect({ path, onread: { buffer: () => ring.room, callback } })
    endWith(own, ring)
    const [[program]] = await Promise.all([
      once(server, 'connection') as Promise<[Socket]>,
      once(own, 'connect'),
    ])
    return { program, own }
  } finally {
    server.close()
    await rm(folder, { recursive: true, force: true })
  }
}

/** Whoever stops in the middle destroys the stream. */
function endWith(stream: Readable, ring: OutputRing): void {
  const cutOff = () => ring.end(new Error('the output was cut off'))
  stream
    .once('end', () => ring.end())
    .once('error', (error) => ring.end(error))
    .once('close', cutOff)
  if (stream.destroyed) cutOff()
}

/** Copies what comes; a part that finds no room waits for it, and the stream with it. */
function gathered(stream: Readable, ring: OutputRing): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0)
  const take = () => {
    while (rest.length > 0 && !ring.isFull) {
      const copied = rest.copy(ring.room)
      rest = rest.subarray(copied)
      ring.advance(copied)
    }
    if (rest.length > 0) stream.pause()
    else stream.resume()
  }
  stream.on('data', (bytes: Buffer) => {
    rest = bytes
    take()
  })
  return ring.read(take)
}
