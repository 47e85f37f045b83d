import { hash } from 'node:crypto'

const BITS = 256

/**
 * A set of files with their sizes and sums, as two numbers: how many they are, and the sum, modulo 2^256, of a SHA-256
 * of each. So what the manifest lists and what many threads have written, in any order, are compared without holding
 * either in memory. It tells damage and mistakes, no forgery: who can choose the files can also write the manifest.
 */
export class FileSet {
  count = 0
  #sum = 0n

  /**
   * @param path in the cluster; files of a tablespace are below `pg_tblspc/<oid>/`
   * @param sha256 of the content, hexadecimal
   */
  add(path: string, size: number, sha256: string): void {
    // JSON tells apart the names that are no text, which UTF-8 alone would not.
    const digest = hash('sha256', JSON.stringify([path, size, sha256]))
    this.#add(1, BigInt(`0x${digest}`))
  }

  /** Adds what `facts` gave in another thread. */
  join({ count, sum }: FileSetFacts): void {
    this.#add(count, sum)
  }

  facts(): FileSetFacts {
    return { count: this.count, sum: this.#sum }
  }

  equals(other: FileSet): boolean {
    return this.count === other.count && this.#sum === other.#sum
  }

  #add(count: number, sum: bigint): void {
    this.count += count
    this.#sum = BigInt.asUintN(BITS, this.#sum + sum)
  }
}

export interface FileSetFacts {
  count: number
  sum: bigint
}
