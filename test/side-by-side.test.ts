import { setImmediate as turn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { sideBySide } from '../src/side-by-side.ts'

async function* numbers(count: number, onEnd = () => {}) {
  try {
    for (let number = 0; number < count; number++) yield number
  } finally {
    onEnd()
  }
}

test('every item is done once, as many at a time as there are lanes', async () => {
  const done: number[] = []
  let running = 0
  let most = 0
  await sideBySide(numbers(50), 4, async (number) => {
    most = Math.max(most, ++running)
    for (let turns = 0; turns < (number % 5) + 1; turns++) await turn()
    done.push(number)
    running--
  })
  expect(done.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, number) => number))
  expect(most).toBe(4)
})

test('after a failure nothing is begun, and it is told when what was under way has ended', async () => {
  const begun: number[] = []
  let ended = 0
  let isSourceEnded = false
  const work = async (number: number) => {
    begun.push(number)
    if (number === 1) throw new Error('the second one')
    for (let turns = 0; turns < 10; turns++) await turn()
    ended++
  }
  const source = numbers(50, () => {
    isSourceEnded = true
  })
  await expect(sideBySide(source, 3, work)).rejects.toThrow('the second one')
  expect(begun).toEqual([0, 1, 2])
  expect(ended).toBe(2)
  expect(isSourceEnded).toBe(true)
})

test('what fails to list is told', async () => {
  const failing = async function* () {
    yield 1
    throw new Error('the listing')
  }
  await expect(sideBySide(failing(), 2, async () => {})).rejects.toThrow('the listing')
})

test('gives back what came of each, in the order of the items, whichever ended first', async () => {
  const { promise, resolve } = Promise.withResolvers<void>()
  const results = await sideBySide([1, 2, 3], 3, async (item) => {
    if (item === 1) await promise
    if (item === 3) resolve()
    return item * 10
  })
  expect(results).toEqual([10, 20, 30])
})
