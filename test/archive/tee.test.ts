import { setImmediate as turn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { Tee } from '../../src/archive/tee.ts'

/** Gives numbered chunks, all in one buffer that is written over as soon as the next one is asked for. */
class Producer {
  /** How many chunks were asked for. */
  asked = 0
  isEnded = false
  readonly #chunks: number
  readonly #failure: Error | undefined

  constructor(chunks: number, failure?: Error) {
    this.#chunks = chunks
    this.#failure = failure
  }

  async *chunks(): AsyncGenerator<Buffer> {
    const buffer = Buffer.alloc(4)
    try {
      for (let number = 1; number <= this.#chunks; number++) {
        this.asked++
        await turn()
        buffer.fill(number)
        yield buffer
        buffer.fill(0xff)
      }
      if (this.#failure) throw this.#failure
    } finally {
      this.isEnded = true
    }
  }
}

/** What a reader sees that looks at a chunk again some turns after it got it. */
async function read(branch: AsyncIterable<Buffer>, turns: number): Promise<number[]> {
  const seen: number[] = []
  for await (const chunk of branch) {
    for (let passed = 0; passed < turns; passed++) await turn()
    seen.push(...new Set(chunk))
  }
  return seen
}

const numbers = (last: number) => Array.from({ length: last }, (_, index) => index + 1)

/** Long enough for everything that can go on to have gone on. */
async function settle(): Promise<void> {
  for (let passed = 0; passed < 50; passed++) await turn()
}

test('every reader gets every chunk, and the slow one before it is written over', async () => {
  const producer = new Producer(20)
  const { branches } = new Tee(producer.chunks(), 3)
  const seen = await Promise.all(branches.map((branch, index) => read(branch, index * 5)))
  expect(seen).toEqual([numbers(20), numbers(20), numbers(20)])
  expect(producer).toMatchObject({ asked: 20, isEnded: true })
})

test('nobody is ahead of anybody', async () => {
  const producer = new Producer(20)
  const { branches } = new Tee(producer.chunks(), 2)
  const [slow, quick] = branches.map((branch) => branch[Symbol.asyncIterator]())
  void quick!.next()
  await settle()
  expect(producer.asked).toBe(0)
  expect((await slow!.next()).value?.[0]).toBe(1)
  void quick!.next()
  await settle()
  expect(producer.asked).toBe(1)
})

test('a reader that leaves in the middle is not waited for any more', async () => {
  const producer = new Producer(20)
  const { branches } = new Tee(producer.chunks(), 2)
  const leaving = async () => {
    for await (const chunk of branches[0]!) if (chunk[0] === 3) return
  }
  const [, seen] = await Promise.all([leaving(), read(branches[1]!, 2)])
  expect(seen).toEqual(numbers(20))
})

test('a reader that leaves while it waits takes no chunk away from the others', async () => {
  const producer = new Producer(5)
  const tee = new Tee(producer.chunks(), 2)
  const impatient = tee.branches[0]![Symbol.asyncIterator]().next()
  const refused = expect(impatient).rejects.toThrow('has left')
  await tee.leave(0)
  await settle()
  expect(await read(tee.branches[1]!, 1)).toEqual(numbers(5))
  // To be told that there is no more would make half an object of what it has read.
  await refused
})

test('a reader that never starts holds the others up only until it leaves', async () => {
  const producer = new Producer(5)
  const tee = new Tee(producer.chunks(), 2)
  const reading = read(tee.branches[0]!, 1)
  await settle()
  expect(producer.asked).toBe(0)
  await tee.leave(1)
  expect(await reading).toEqual(numbers(5))
})

test('every reader hears what the source failed with, also one that asks again', async () => {
  const failure = new Error('the page cannot be read')
  const tee = new Tee(new Producer(3, failure).chunks(), 2)
  const outcomes = await Promise.allSettled(tee.branches.map((branch) => read(branch, 1)))
  expect(outcomes.map((outcome) => outcome.status === 'rejected' && outcome.reason)).toEqual([
    failure,
    failure,
  ])
  expect(tee.fault).toEqual({ error: failure })
  await expect(tee.branches[0]![Symbol.asyncIterator]().next()).rejects.toBe(failure)
})

test('the source is ended when the last reader has left, and not before', async () => {
  const producer = new Producer(20)
  const tee = new Tee(producer.chunks(), 2)
  await Promise.all(tee.branches.map((branch) => branch[Symbol.asyncIterator]().next()))
  await tee.leave(0)
  await tee.leave(0)
  expect(producer.isEnded).toBe(false)
  await tee.leave(1)
  expect(producer).toMatchObject({ asked: 1, isEnded: true })
})
