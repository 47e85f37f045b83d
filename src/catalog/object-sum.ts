import { createHash } from 'node:crypto'
import { readSealHeader, SEAL_HEADER_READ_BYTES } from '../archive/age.ts'
import type { StoredObject } from './backup-record.ts'

/**
 * Sums up a stored object as it passes by. Of an encrypted one, the age header is left out of the sum and has one of its
 * own, since a rotation of keys replaces it.
 */
export class ObjectSum {
  readonly #sum = createHash('sha256')
  #bytes = 0
  /** The beginning of an encrypted object, as long as its header is not all there. */
  #start: Buffer | undefined
  #header: StoredObject['header']

  constructor(isSealed: boolean) {
    this.#start = isSealed ? Buffer.alloc(0) : undefined
  }

  /** @throws Error when an encrypted object does not begin with a header */
  push(chunk: Uint8Array): void {
    this.#bytes += chunk.length
    if (!this.#start) {
      this.#sum.update(chunk)
      return
    }
    const start = Buffer.concat([this.#start, chunk])
    const found = readSealHeader(start)
    if (found) {
      const header = start.subarray(0, found.headerBytes)
      this.#header = { bytes: header.length, sha256: createHash('sha256').update(header).digest('hex') }
      this.#sum.update(start.subarray(header.length))
    } else if (start.length >= SEAL_HEADER_READ_BYTES)
      throw new Error('it does not begin as an age file does')
    this.#start = found ? undefined : start
  }

  /** @throws Error when an encrypted object ended in its header */
  end(): Omit<StoredObject, 'name'> {
    if (this.#start) throw new Error('it ends before the end of its age header')
    return {
      bytes: this.#bytes,
      sha256: this.#sum.digest('hex'),
      ...(this.#header && { header: this.#header }),
    }
  }
}

/** Whether an object is what was recorded. A header that is another one than at that time is that of a rotation of keys. */
export function isAsRecorded(
  recorded: Omit<StoredObject, 'name'>,
  found: Omit<StoredObject, 'name'>,
): boolean {
  const content = ({ bytes, header }: Omit<StoredObject, 'name'>) => bytes - (header?.bytes ?? 0)
  return found.sha256 === recorded.sha256 && content(found) === content(recorded)
}
