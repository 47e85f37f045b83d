import { expect, test } from 'vitest'
import { BlockChanges } from '../../src/postgres/block-changes.ts'
import { randomFrom } from '../random.ts'

const TABLE = { space: 1663, database: 5, relation: 16_384 }

const of = (changes: BlockChanges, segment: number, relation = TABLE) => {
  const found = changes.of({ ...relation, segment })
  return found === 'whole' ? found : { ...found, blocks: [...found.blocks] }
}

test('blocks come ascending, each once, counted from their segment', () => {
  const changes = new BlockChanges(100)
  changes.mark(TABLE, [250, 3, 99, 100])
  changes.mark(TABLE, [3, 0, 299])
  expect(of(changes, 0)).toEqual({ blocks: [0, 3, 99] })
  expect(of(changes, 1)).toEqual({ blocks: [0] })
  expect(of(changes, 2)).toEqual({ blocks: [50, 99] })
  expect(of(changes, 3)).toEqual({ blocks: [] })
})

test('relations, databases and tablespaces are kept apart', () => {
  const changes = new BlockChanges(100)
  changes.mark(TABLE, [1])
  for (const key of ['space', 'database', 'relation'] as const) {
    expect(of(changes, 0, { ...TABLE, [key]: TABLE[key] + 1 })).toEqual({ blocks: [] })
  }
})

test('the lowest limit counts, in every segment that it lies in or before', () => {
  const changes = new BlockChanges(100)
  changes.limit(TABLE, 180)
  changes.limit(TABLE, 150)
  changes.limit(TABLE, 170)
  changes.mark(TABLE, [160, 10])
  expect(of(changes, 0)).toEqual({ blocks: [10] })
  expect(of(changes, 1)).toEqual({ limit: 50, blocks: [60] })
  expect(of(changes, 2)).toEqual({ limit: 0, blocks: [] })
  changes.limit(TABLE, 100)
  expect(of(changes, 0)).toEqual({ blocks: [10] })
  expect(of(changes, 1)).toEqual({ limit: 0, blocks: [60] })
})

test('a database that came to be is whole, in that tablespace', () => {
  const changes = new BlockChanges(100)
  changes.limit({ space: 1663, database: 7, relation: 0 }, 0)
  expect(of(changes, 0, { space: 1663, database: 7, relation: 1259 })).toBe('whole')
  expect(of(changes, 0, { space: 16_400, database: 7, relation: 1259 })).toEqual({ blocks: [] })
  expect(of(changes, 0)).toEqual({ blocks: [] })
})

test('a cut is one that left a part of a segment', () => {
  const changes = new BlockChanges(100)
  changes.mark(TABLE, [1])
  changes.limit({ ...TABLE, relation: 2 }, 0)
  changes.limit({ ...TABLE, relation: 3 }, 200)
  expect(changes.hasCuts).toBe(false)
  changes.limit({ ...TABLE, relation: 4 }, 201)
  expect(changes.hasCuts).toBe(true)
})

test('random marks come back as they went in', () => {
  const random = randomFrom(20_261_121)
  const changes = new BlockChanges(131_072)
  const marked = new Set<number>()
  for (let round = 0; round < 50; round++) {
    const blocks = Array.from({ length: 100 }, () => Math.floor(random() * 300_000))
    for (const block of blocks) marked.add(block)
    changes.mark(TABLE, blocks)
  }
  const found = [0, 1, 2].flatMap((segment) => {
    const { blocks } = of(changes, segment) as { blocks: number[] }
    return blocks.map((block) => block + segment * 131_072)
  })
  expect(found).toEqual([...marked].sort((a, b) => a - b))
})
