import { hash } from 'node:crypto'
import { nameToBytes } from '../archive/file-name.ts'

/**
 * A set of paths in eight bytes each, so that those of a million files can be held. It may take a path that was never
 * added for one that was, in one of 10^12 questions where it has ten million.
 */
export class PathSet {
  #digests = new BigUint64Array(1024)
  #count = 0
  #isSorted = true

  add(path: string): void {
    if (this.#count === this.#digests.length) {
      const larger = new BigUint64Array(this.#count * 2)
      larger.set(this.#digests)
      this.#digests = larger
    }
    this.#digests[this.#count++] = digestOf(path)
    this.#isSorted = false
  }

  has(path: string): boolean {
    if (!this.#isSorted) this.#digests.subarray(0, this.#count).sort()
    this.#isSorted = true
    const digest = digestOf(path)
    let [from, to] = [0, this.#count]
    while (from < to) {
      const middle = (from + to) >>> 1
      if (this.#digests[middle]! < digest) from = middle + 1
      else to = middle
    }
    return from < this.#count && this.#digests[from] === digest
  }
}

const digestOf = (path: string) => hash('sha256', nameToBytes(path), 'buffer').readBigUInt64LE(0)
