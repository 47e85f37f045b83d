import type { MessagePort } from 'node:worker_threads'
import { type Codec, compressFrame, releaseMemory } from './codec.ts'

/** Compresses the frames of a shard, in their order: alone, or with threads that have nothing else to do. */
export class FramePress {
  /** Where each frame begins in what came out. */
  readonly offsets: number[] = []
  readonly #codec: Codec
  readonly #helpers: readonly PressHelper[]
  #bytes = 0

  /** @param helpers may grow and shrink while frames are pressed */
  constructor(codec: Codec, helpers: readonly PressHelper[] = []) {
    this.#codec = codec
    this.#helpers = codec.method === 'none' ? [] : helpers
  }

  /** @param frames plain ones; each is read before the next one is asked for */
  async *press(frames: AsyncIterable<Buffer> | Iterable<Buffer>): AsyncGenerator<Buffer> {
    const pressed: Promise<Buffer>[] = []
    for await (const plain of frames) {
      const helper = this.#helpers.find((candidate) => candidate.isIdle)
      if (!helper && pressed.length === 0) yield this.#emit(compressFrame(this.#codec, plain))
      else {
        const frame = helper ? helper.press(plain) : Promise.resolve(compressFrame(this.#codec, plain))
        // It is awaited in its turn; until then nobody minds a failure.
        frame.catch(() => {})
        pressed.push(frame)
      }
      while (pressed.length > this.#helpers.length) yield this.#emit(await pressed.shift()!)
    }
    for (const frame of pressed) yield this.#emit(await frame)
  }

  #emit(frame: Buffer): Buffer {
    this.offsets.push(this.#bytes)
    this.#bytes += frame.length
    return frame
  }
}

/** A thread at the other end of a port, which compresses one frame at a time. */
export class PressHelper {
  readonly #port: MessagePort
  readonly #plain: Buffer<SharedArrayBuffer>
  #pending: PromiseWithResolvers<Buffer> | undefined
  #isGone = false

  /** @param frameBytes the largest frame */
  constructor(port: MessagePort, codec: Codec, frameBytes: number) {
    this.#port = port
    this.#plain = Buffer.from(new SharedArrayBuffer(frameBytes))
    port.on('message', (frame: Uint8Array) =>
      this.#settle()?.resolve(Buffer.from(frame.buffer, frame.byteOffset, frame.length)),
    )
    port.on('close', () => {
      this.#isGone = true
      this.#settle()?.reject(new Error('the thread that was compressing a frame is gone'))
    })
    port.postMessage({ codec, plain: this.#plain.buffer } satisfies HelperTask)
  }

  get isIdle(): boolean {
    return this.#pending === undefined && !this.#isGone
  }

  /** Copies the frame, so that its memory can be used again at once. */
  press(plain: Buffer): Promise<Buffer> {
    plain.copy(this.#plain)
    this.#pending = Promise.withResolvers()
    this.#port.postMessage(plain.length)
    return this.#pending.promise
  }

  /** Lets the thread go. */
  release(): void {
    this.#port.close()
  }

  #settle(): PromiseWithResolvers<Buffer> | undefined {
    const pending = this.#pending
    this.#pending = undefined
    return pending
  }
}

interface HelperTask {
  codec: Codec
  plain: SharedArrayBuffer
}

/** A small frame can lie in memory that it shares with others, which cannot be given away. */
const COPIED_BYTES = 256 * 1024

function copyOf(frame: Buffer): Uint8Array {
  const copy = new Uint8Array(frame)
  releaseMemory(frame)
  return copy
}

/** The helping thread's side: compresses what it is sent until the other side lets it go. */
export function helpToPress(port: MessagePort): Promise<void> {
  let task: { codec: Codec; plain: Buffer } | undefined
  port.on('message', (message: HelperTask | number) => {
    if (typeof message !== 'number') {
      task = { codec: message.codec, plain: Buffer.from(message.plain) }
      return
    }
    const frame = compressFrame(task!.codec, task!.plain.subarray(0, message))
    const sent = frame.length < COPIED_BYTES ? copyOf(frame) : frame
    port.postMessage(sent, [sent.buffer as ArrayBuffer])
  })
  return new Promise((resolve) => port.on('close', resolve))
}
