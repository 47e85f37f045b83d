import { expect, test } from 'vitest'
import { Throttle } from '../../src/backup/throttle.ts'

const shared = () => new BigInt64Array(new SharedArrayBuffer(24))
const SLOTS = { due: 1, stop: 2 }

test('two readers together keep to the rate, whatever each one reads', () => {
  const slots = shared()
  const readers = [new Throttle(1_000_000, slots, SLOTS), new Throttle(1_000_000, slots, SLOTS)]
  const begun = performance.now()
  for (let turn = 0; turn < 10; turn++) for (const reader of readers) reader.wait(turn % 2 ? 1000 : 19_000)
  // The first read waits for nobody, so its share is not in the time.
  const bytes = 200_000 - 1000
  expect(performance.now() - begun).toBeGreaterThanOrEqual(((bytes - 19_000) / 1_000_000) * 1000)
  expect(slots[0]).toBe(0n)
})

test('time that nobody used is not saved up', () => {
  const slots = shared()
  // As if the last read had been due an hour ago.
  slots[1] = process.hrtime.bigint() - 3_600_000_000_000n
  const reader = new Throttle(1_000_000, slots, SLOTS)
  const begun = performance.now()
  for (let turn = 0; turn < 3; turn++) reader.wait(50_000)
  expect(performance.now() - begun).toBeGreaterThanOrEqual(99)
})

test('whoever waits is told to stop', () => {
  const slots = shared()
  slots[2] = 1n
  const reader = new Throttle(1, slots, SLOTS)
  expect(reader.wait(1_000_000)).toBe('due')
  const begun = performance.now()
  expect(reader.wait(1)).toBe('stopped')
  expect(performance.now() - begun).toBeLessThan(10_000)
})
