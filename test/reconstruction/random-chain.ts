import { randomFrom } from '../random.ts'
import { BLOCK, increment, type Made } from './chain-maker.ts'

/** What one link has of a file: all of it, or blocks and a length. */
type State = { whole: Buffer } | { length: number; blocks: Map<number, Buffer> }

/**
 * Draws links, each with whole files and increments of any shape, and says what the last one's files have to be, by going
 * down link by link for each block on its own.
 */
export class RandomChain {
  readonly links: Made[][] = []
  readonly #random: () => number
  /** Newest last. */
  #states = new Map<string, State[]>()

  constructor(seed: number) {
    this.#random = randomFrom(seed)
  }

  addLink(files: number): void {
    const next = new Map<string, State[]>()
    for (let number = 0; number < files; number++) {
      const path = `base/5/${16_384 + this.#below(files + 3)}`
      const below = this.#states.get(path)
      if (!next.has(path)) next.set(path, this.#drawn(below))
    }
    this.#states = next
    this.links.push([...next].map(([path, states]) => madeOf(path, states.at(-1)!)))
  }

  get expected(): Map<string, Buffer> {
    return new Map([...this.#states].map(([path, states]) => [path, contentOf(states)]))
  }

  #drawn(below: State[] | undefined): State[] {
    if (!below || this.#random() < 0.15) {
      const odd = this.#random() < 0.1 ? this.#below(BLOCK) : 0
      return [{ whole: this.#bytes(this.#below(40) * BLOCK + odd) }]
    }
    const length = this.#below(44)
    const blocks = new Map<number, Buffer>()
    const share = this.#random() < 0.3 ? 0 : this.#random()
    for (let block = 0; block < 44; block++) {
      if (this.#random() < share) blocks.set(block, this.#bytes(BLOCK))
    }
    return [...below, { length, blocks }]
  }

  #below(count: number): number {
    return Math.floor(this.#random() * count)
  }

  #bytes(count: number): Buffer {
    return Buffer.alloc(count, `${this.#random()}`)
  }
}

function madeOf(path: string, state: State): Made {
  if ('whole' in state) return { path, content: state.whole }
  return increment(path, state.length, state.blocks)
}

function contentOf(states: readonly State[]): Buffer {
  const newest = states.at(-1)!
  if ('whole' in newest) return newest.whole
  const length = Math.max(newest.length, ...[...newest.blocks.keys()].map((block) => block + 1))
  return Buffer.concat(Array.from({ length }, (_, block) => blockOf(states, states.length - 1, block)))
}

function blockOf(states: readonly State[], link: number, block: number): Buffer {
  const state = states[link]!
  if ('whole' in state) {
    const bytes = Buffer.alloc(BLOCK)
    state.whole.subarray(block * BLOCK, (block + 1) * BLOCK).copy(bytes)
    return bytes
  }
  return (
    state.blocks.get(block) ??
    (block >= state.length ? Buffer.alloc(BLOCK) : blockOf(states, link - 1, block))
  )
}
