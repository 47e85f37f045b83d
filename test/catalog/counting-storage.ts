import type { ListOptions, ObjectFacts, Storage } from '../../src/storage/storage.ts'

/** A store in memory that counts what it is asked: how many objects its listings gave, and other calls. */
export class CountingStorage implements Storage {
  readonly location = '/memory'
  readonly address = { type: 'local', path: '/memory' } as const
  readonly #objects = new Map<string, { bytes: Buffer; modified: Date }>()
  #keys: string[] | undefined
  #clock = Date.parse('2026-11-20T12:00:00Z')
  listed = 0
  stats = 0
  reads: string[] = []

  forget(): void {
    this.listed = 0
    this.stats = 0
    this.reads = []
  }

  async put(key: string, source: Uint8Array): Promise<'stored'> {
    this.#clock += 1000
    this.#objects.set(key, { bytes: Buffer.from(source), modified: new Date(this.#clock) })
    this.#keys = undefined
    return 'stored'
  }

  async get(key: string): Promise<AsyncIterable<Buffer> | undefined> {
    this.reads.push(key)
    const bytes = this.#objects.get(key)?.bytes
    return (
      bytes &&
      (async function* () {
        yield bytes
      })()
    )
  }

  async stat(key: string): Promise<ObjectFacts | undefined> {
    this.stats++
    return this.#factsOf(key)
  }

  async *list(prefix: string, { startAfter = '' }: ListOptions = {}): AsyncIterable<ObjectFacts> {
    const keys = this.#sorted()
    for (let at = this.#after(startAfter > prefix ? startAfter : prefix); at < keys.length; at++) {
      if (!keys[at]!.startsWith(prefix)) return
      this.listed++
      yield this.#factsOf(keys[at]!)!
    }
  }

  async *folders(prefix: string): AsyncIterable<string> {
    let last: string | undefined
    for (const key of this.#sorted()) {
      const [name, ...rest] = key.startsWith(prefix) ? key.slice(prefix.length).split('/') : []
      if (rest.length === 0 || name === last) continue
      last = name
      yield name!
    }
  }

  async *names(prefix: string): AsyncIterable<string> {
    for (const key of this.#sorted()) {
      const name = key.startsWith(prefix) ? key.slice(prefix.length) : ''
      if (name !== '' && !name.includes('/')) yield name
    }
  }

  async replaceStart(key: string, oldBytes: number, start: Uint8Array): Promise<void> {
    const old = this.#objects.get(key)!.bytes
    await this.put(key, Buffer.concat([start, old.subarray(oldBytes)]))
  }

  async lockUntil(): Promise<void> {}

  async remove(key: string): Promise<void> {
    this.#objects.delete(key)
    this.#keys = undefined
  }

  async sweep() {
    return { objects: 0, bytes: 0 }
  }

  async freeBytes() {
    return undefined
  }

  async *probe(): AsyncIterable<never> {}

  #factsOf(key: string): ObjectFacts | undefined {
    const object = this.#objects.get(key)
    return object && { key, bytes: object.bytes.length, modified: object.modified }
  }

  #sorted(): string[] {
    this.#keys ??= [...this.#objects.keys()].sort()
    return this.#keys
  }

  /** The place of the first key that sorts after `key`. */
  #after(key: string): number {
    const keys = this.#sorted()
    let [low, high] = [0, keys.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      if (keys[middle]! > key) high = middle
      else low = middle + 1
    }
    return low
  }
}
