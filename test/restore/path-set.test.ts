import { expect, test } from 'vitest'
import { PathSet } from '../../src/restore/path-set.ts'

test('a set of paths has what was added, also between questions, and nothing else', () => {
  const paths = new PathSet()
  expect(paths.has('')).toBe(false)
  const name = (number: number) => `base/5/${number}`
  for (let number = 0; number < 5000; number++) {
    paths.add(name(number))
    if (number % 1000 === 0) expect(paths.has(name(number))).toBe(true)
  }
  for (let number = 0; number < 5000; number++) expect(paths.has(name(number))).toBe(true)
  for (let number = 5000; number < 10_000; number++) expect(paths.has(name(number))).toBe(false)
})

test('names that are no text are told apart', () => {
  const paths = new PathSet()
  paths.add('\udc80')
  expect(paths.has('\udc80')).toBe(true)
  expect(paths.has('\udc81')).toBe(false)
})
