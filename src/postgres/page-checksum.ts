import { existsSync, readFileSync } from 'node:fs'
import type { Lsn } from './lsn.ts'

const WASM_PAGE_BYTES = 64 * 1024
/** What `check` gives back nearly always, so that nothing is made for it. */
const NONE: readonly number[] = Object.freeze([])

/** What is used here of a global whose types come only with those of browsers. */
declare const WebAssembly: {
  Module: new (bytes: Uint8Array) => object
  Memory: new (size: { initial: number }) => { readonly buffer: ArrayBuffer }
  Instance: new (
    module: object,
    imports: Record<string, Record<string, object>>,
  ) => { readonly exports: object }
}

/** What page-checksum.wat exports. */
interface PageChecksum {
  check(page: number, pageBytes: number, pages: number, block: number, wrong: number): number
  maxLsn: { value: bigint }
}

let compiled: object | undefined

/**
 * Verifies data pages at about the speed of memory. What is to be checked lies in the memory of the WebAssembly that
 * checks it, so nothing is copied: files are read into `buffer`, pages are checked there, wherever they begin.
 * One instance serves one thread.
 */
export class PageChecker {
  readonly pageBytes: number
  /** The memory to work in. */
  readonly buffer: Buffer
  /** The buffer, and behind it room for one more page. Its first byte is the first one of its `ArrayBuffer`. */
  readonly memory: Buffer
  /** Where in `memory` that one page is: for one that does not lie whole in the buffer. */
  readonly spareAt: number
  readonly #wrongAt: number
  readonly #wasm: PageChecksum

  /**
   * @param bufferBytes how large a buffer is wanted
   * @param pageBytes the cluster's `block_size`
   */
  constructor(bufferBytes: number, pageBytes = 8192) {
    const memoryBytes = bufferBytes + pageBytes
    this.#wrongAt = Math.ceil(memoryBytes / 4) * 4
    const wrongBytes = 4 * Math.ceil(memoryBytes / pageBytes)
    const memory = new WebAssembly.Memory({
      initial: Math.ceil((this.#wrongAt + wrongBytes) / WASM_PAGE_BYTES),
    })
    compiled ??= new WebAssembly.Module(readFileSync(wasmFile()))
    this.#wasm = new WebAssembly.Instance(compiled, { page: { memory } }).exports as PageChecksum
    this.pageBytes = pageBytes
    this.memory = Buffer.from(memory.buffer, 0, memoryBytes)
    this.buffer = this.memory.subarray(0, bufferBytes)
    this.spareAt = bufferBytes
  }

  /**
   * Checks pages that lie one behind the other. A new page has to be all zeros, as for the server itself; whether the
   * pointers in a header make sense is not looked at.
   *
   * @param offset of the first page in `memory`; any number
   * @param firstBlock its number within the relation, with the segments before it
   * @returns the index of each wrong page, counted from the first one; do not change it
   * @throws RangeError when the pages do not lie in the memory
   * @see src/backend/storage/page/bufpage.c, PageIsVerified
   */
  check(offset: number, pages: number, firstBlock: number): readonly number[] {
    if (offset < 0 || pages < 0 || offset + pages * this.pageBytes > this.memory.length) {
      throw new RangeError(`${pages} pages at ${offset} do not lie in the memory`)
    }
    const count = this.#wasm.check(offset, this.pageBytes, pages, firstBlock, this.#wrongAt)
    return count === 0 ? NONE : Array.from(new Uint32Array(this.memory.buffer, this.#wrongAt, count))
  }

  /** The LSN in the header of a page, right or wrong. */
  lsnAt(offset: number): Lsn {
    return (BigInt(this.memory.readUInt32LE(offset)) << 32n) | BigInt(this.memory.readUInt32LE(offset + 4))
  }

  /** The highest LSN of the pages that were found right since it was set; 0 in the beginning. */
  get maxLsn(): Lsn {
    return BigInt.asUintN(64, this.#wasm.maxLsn.value)
  }

  set maxLsn(lsn: Lsn) {
    this.#wasm.maxLsn.value = lsn
  }
}

/** The build puts it beside what ships; a module that runs from the source tree takes it from there. */
function wasmFile(): URL {
  const beside = new URL('./page-checksum.wasm', import.meta.url)
  return existsSync(beside) ? beside : new URL('../../dist/page-checksum.wasm', import.meta.url)
}
