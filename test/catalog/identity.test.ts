import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { claimIdentity, markRepository, readIdentity } from '../../src/catalog/identity.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { readObject, type Storage } from '../../src/storage/storage.ts'
import { Scratch } from '../lab/scratch.ts'
import { keysOf, MIB } from './stored.ts'

const OURS = { systemIdentifier: '7400000000000000001', walSegmentBytes: 16 * MIB }
const OTHER = { ...OURS, systemIdentifier: '7400000000000000002' }

let scratch: Scratch
let storage: LocalStorage
let count = 0
beforeAll(async () => {
  scratch = await Scratch.create('identity')
})
afterAll(() => scratch[Symbol.asyncDispose]())
beforeEach(() => {
  storage = new LocalStorage(join(scratch.path, `repository-${++count}`))
})

test('a folder that belongs to nobody is claimed, once', async () => {
  expect(await readIdentity(storage, 'main')).toBeUndefined()
  await claimIdentity(storage, 'main', OURS)
  expect(await readIdentity(storage, 'main')).toEqual(OURS)
  const written = await storage.stat('main/cluster.json')
  await claimIdentity(storage, 'main', OURS)
  expect(await storage.stat('main/cluster.json')).toEqual(written)
  expect(await keysOf(storage)).toEqual(['main/cluster.json', 'pgrecall.json'])
})

test('another PostgreSQL cluster is refused, and may have a name of its own', async () => {
  await claimIdentity(storage, 'main', OURS)
  await expect(claimIdentity(storage, 'main', OTHER)).rejects.toMatchObject({
    kind: 'conflict',
    message: `"main" in ${storage.location} belongs to the PostgreSQL cluster 7400000000000000001, this is 7400000000000000002; nothing was stored`,
    hint: expect.stringContaining('name of its own'),
  })
  expect(await readIdentity(storage, 'main')).toEqual(OURS)
  await claimIdentity(storage, 'other', OTHER)
})

test('another size of WAL segments is refused: the same names would mean other positions', async () => {
  await claimIdentity(storage, 'main', OURS)
  await expect(claimIdentity(storage, 'main', { ...OURS, walSegmentBytes: 64 * MIB })).rejects.toMatchObject({
    kind: 'conflict',
    message: expect.stringContaining('WAL segments of 16777216 bytes'),
  })
})

test('of two at the same moment one gets the folder, and the other is refused', async () => {
  for (let round = 0; round < 10; round++) {
    const cluster = `cluster-${round}`
    const results = await Promise.allSettled([
      claimIdentity(storage, cluster, OURS),
      claimIdentity(storage, cluster, OTHER),
    ])
    expect(results.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected'])
    const winner = results[0].status === 'fulfilled' ? OURS : OTHER
    expect(await readIdentity(storage, cluster)).toEqual(winner)
  }
})

test('one that saw an unclaimed folder and comes too late is refused, and overwrites nothing', async () => {
  const late = Object.assign(Object.create(storage) as Storage, {
    location: storage.location,
    get: (...args: Parameters<Storage['get']>) => storage.get(...args),
    put: async (...args: Parameters<Storage['put']>) => {
      if (args[0] === 'main/cluster.json') await claimIdentity(storage, 'main', OURS)
      return storage.put(...args)
    },
  })
  await expect(claimIdentity(late, 'main', OTHER)).rejects.toMatchObject({ kind: 'conflict' })
  expect(await readIdentity(storage, 'main')).toEqual(OURS)
})

test('the repository is marked once, also by many at the same moment', async () => {
  const marks = await Promise.all(Array.from({ length: 10 }, () => markRepository(storage)))
  expect(new Set(marks.map(({ id }) => id)).size).toBe(1)
  expect(marks.filter(({ created }) => created)).toHaveLength(1)
  expect(await markRepository(storage)).toEqual({ id: marks[0]!.id, created: false })
})

describe('a file that is not what was written', () => {
  test.each(['', 'null', '[]', '{"format": 1}', '{"format": 1, "systemIdentifier": 7}', '{"format'])(
    'is told and not written over: %j',
    async (text) => {
      await storage.put('main/cluster.json', Buffer.from(text))
      await expect(readIdentity(storage, 'main')).rejects.toMatchObject({
        kind: text === '[]' ? 'repository' : 'damaged',
        message: expect.stringContaining(`${storage.location}/main/cluster.json`),
      })
      await expect(claimIdentity(storage, 'main', OURS)).rejects.toThrow()
      expect(String(await readObject(storage, 'main/cluster.json'))).toBe(text)
    },
  )

  test.each(['main/cluster.json', 'pgrecall.json'])('or of a later format is refused: %s', async (key) => {
    await storage.put(key, Buffer.from(JSON.stringify({ format: 2, ...OURS })))
    await expect(claimIdentity(storage, 'main', OURS)).rejects.toMatchObject({
      kind: 'repository',
      message: `${storage.location}/${key} has format 2, this pgrecall knows 1`,
    })
    expect(await keysOf(storage)).toEqual([key])
  })
})
