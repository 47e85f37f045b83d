import { randomBytes } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { PgrecallError } from '../../src/errors.ts'
import { readObject, type Storage } from '../../src/storage/storage.ts'

export interface OpenedStorage {
  /** Empty, and nobody else's. */
  storage: Storage
  /** The same place, as another host opens it. */
  other: Storage
  dispose: () => Promise<void>
}

/** What every backend must do, whatever it stores its objects in. */
export function storageContract(name: string, open: () => Promise<OpenedStorage>): void {
  describe(`${name} keeps the storage contract`, () => {
    let storage: Storage
    let other: Storage
    let dispose: () => Promise<void>
    beforeEach(async () => {
      const opened = await open()
      storage = opened.storage
      other = opened.other
      dispose = opened.dispose
    })
    afterEach(() => dispose())

    const text = async (key: string) => (await readObject(storage, key))?.toString()
    const keys = async (prefix: string, startAfter?: string) =>
      (await all(storage.list(prefix, startAfter === undefined ? {} : { startAfter }))).map(({ key }) => key)

    describe('put', () => {
      test('stores bytes from memory, from a list and from a stream', async () => {
        expect(await storage.put('a/bytes', Buffer.from('one'))).toBe('stored')
        expect(await storage.put('a/list', [Buffer.from('on'), Buffer.from('e')])).toBe('stored')
        expect(await storage.put('a/stream', chunked(['o', '', 'ne']))).toBe('stored')
        expect(await storage.put('a/empty', Buffer.alloc(0))).toBe('stored')
        for (const key of ['a/bytes', 'a/list', 'a/stream']) expect(await text(key)).toBe('one')
        expect(await text('a/empty')).toBe('')
      })

      test('keeps bytes that do not fit one read', async () => {
        const bytes = randomBytes(5 * 1024 * 1024 + 7)
        await storage.put('large', bytes)
        expect((await readObject(storage, 'large'))?.equals(bytes)).toBe(true)
      })

      test('lets the source reuse its buffer for the next chunk', async () => {
        const buffer = Buffer.alloc(70_000)
        const source = function* () {
          for (const letter of 'abc') yield buffer.fill(letter)
        }
        await storage.put('reused', source())
        const stored = await text('reused')
        expect(stored).toBe(['a', 'b', 'c'].map((letter) => letter.repeat(70_000)).join(''))
      })

      test('replaces an object', async () => {
        await storage.put('key', Buffer.from('a longer old content'))
        await storage.put('key', Buffer.from('new'))
        expect(await text('key')).toBe('new')
      })

      test('with ifAbsent leaves an existing object as it is', async () => {
        expect(await storage.put('key', Buffer.from('first'), { ifAbsent: true })).toBe('stored')
        expect(await storage.put('key', Buffer.from('second'), { ifAbsent: true })).toBe('exists')
        expect(await text('key')).toBe('first')
      })

      test('with ifAbsent stores exactly one of twenty that come at the same moment', async () => {
        const contents = Array.from({ length: 20 }, (_, index) => `content ${index}`)
        const results = await Promise.all(
          contents.map((content) => storage.put('contested/key', chunked([...content]), { ifAbsent: true })),
        )
        expect(results.filter((result) => result === 'stored')).toHaveLength(1)
        expect(await text('contested/key')).toBe(contents[results.indexOf('stored')])
        expect(await keys('')).toEqual(['contested/key'])
      })

      test('with ifAbsent stores exactly one of ten from each of two hosts', async () => {
        for (let round = 0; round < 5; round++) {
          const contents = Array.from({ length: 20 }, (_, index) => Buffer.from(`content ${index}`))
          const results = await Promise.all(
            contents.map((content, index) =>
              (index % 2 ? storage : other).put(`contested/${round}`, content, { ifAbsent: true }),
            ),
          )
          expect(results.filter((result) => result === 'stored')).toHaveLength(1)
          expect(await text(`contested/${round}`)).toBe(contents[results.indexOf('stored')]!.toString())
        }
      })

      test('with ifAbsent leaves an existing object as it is, and ends a large source', async () => {
        await storage.put('key', Buffer.from('first'))
        let ended = false
        const source = async function* () {
          try {
            yield* mebibytes(12)
          } finally {
            ended = true
          }
        }
        expect(await storage.put('key', source(), { ifAbsent: true })).toBe('exists')
        expect(await text('key')).toBe('first')
        expect(await storage.put('new', source(), { ifAbsent: true })).toBe('stored')
        expect(ended).toBe(true)
        expect((await storage.stat('new'))?.bytes).toBe(12 * MEBIBYTE)
      })

      test.each([
        // What is a part of its own where objects are stored in parts, one byte less, and one more.
        5 * 1024 * 1024,
        5 * 1024 * 1024 - 1,
        5 * 1024 * 1024 + 1,
        17 * 1024 * 1024 + 3,
      ])('stores a stream of %d bytes whose chunks are of all sizes', async (bytes) => {
        const content = randomBytes(bytes)
        const source = function* () {
          const sizes = [1, 70_000, 0, 3_000_000, 6_000_000]
          for (let at = 0, turn = 0; at < bytes; turn++) {
            const size = sizes[turn % sizes.length]!
            yield content.subarray(at, at + size)
            at += size
          }
        }
        expect(await storage.put('stream', source())).toBe('stored')
        expect((await readObject(storage, 'stream'))?.equals(content)).toBe(true)
      })

      test('without ifAbsent leaves one whole content of twenty that come at the same moment', async () => {
        const contents = Array.from({ length: 20 }, (_, index) => `${index};`.repeat(index + 1))
        await Promise.all(contents.map((content) => storage.put('contested', chunked([...content]))))
        expect(contents).toContain(await text('contested'))
      })

      test('shows nothing of an object whose source fails midway, and throws what the source threw', async () => {
        const fault = Object.assign(new Error('the disk of the database failed'), { code: 'EIO' })
        await expect(storage.put('a/broken', failing(fault))).rejects.toBe(fault)
        expect(await storage.stat('a/broken')).toBeUndefined()
        expect(await storage.get('a/broken')).toBeUndefined()
        expect(await keys('')).toEqual([])
      })

      test('shows nothing of a large object whose source fails midway, and keeps what was there', async () => {
        await storage.put('a/old', Buffer.from('old'))
        const source = async function* () {
          yield* mebibytes(12)
          throw new Error('the disk of the database failed')
        }
        for (const key of ['a/old', 'a/new'])
          await expect(storage.put(key, source())).rejects.toThrow('the disk of the database failed')
        expect(await keys('')).toEqual(['a/old'])
        expect(await text('a/old')).toBe('old')
      })

      test.each([{ ifAbsent: true }, {}])('can be repeated after its source failed (%o)', async (options) => {
        await expect(storage.put('a/again', failing(new Error('no')), options)).rejects.toThrow('no')
        expect(await storage.put('a/again', Buffer.from('yes'), options)).toBe('stored')
        expect(await text('a/again')).toBe('yes')
      })

      test('keeps the old content of a key when the source of the new one fails', async () => {
        await storage.put('key', Buffer.from('old'))
        await expect(storage.put('key', failing(new Error('no')))).rejects.toThrow('no')
        expect(await text('key')).toBe('old')
      })

      test('keeps the old content while the new one is being written', async () => {
        await storage.put('key', Buffer.from('old'))
        let seen: string | undefined
        await storage.put(
          'key',
          chunked(['ne', 'w'], async () => (seen = await text('key'))),
        )
        expect(seen).toBe('old')
        expect(await text('key')).toBe('new')
      })

      test('stops midway when it is aborted, and leaves nothing', async () => {
        const abort = new AbortController()
        let given = 0
        const endless = async function* () {
          for (;;) {
            if (++given === 3) abort.abort(new Error('stopped by the user'))
            yield Buffer.alloc(100_000)
          }
        }
        const putting = storage.put('a/aborted', endless(), { signal: abort.signal })
        await expect(putting).rejects.toThrow('stopped by the user')
        expect(given).toBeLessThan(10)
        expect(await keys('')).toEqual([])
        expect(await storage.stat('a/aborted')).toBeUndefined()
      })

      test('stops in the middle of a large object when it is aborted, and leaves nothing', async () => {
        const abort = new AbortController()
        const source = async function* () {
          yield* mebibytes(12)
          abort.abort(new Error('stopped by the user'))
          yield* mebibytes(12)
        }
        const putting = storage.put('a/aborted', source(), { signal: abort.signal })
        await expect(putting).rejects.toThrow('stopped by the user')
        expect(await keys('')).toEqual([])
      })

      test('ends its source when it stops early', async () => {
        const abort = new AbortController()
        let ended = false
        const endless = async function* () {
          try {
            for (;;) {
              yield Buffer.alloc(10)
              abort.abort(new Error('stop'))
            }
          } finally {
            ended = true
          }
        }
        await expect(storage.put('a', endless(), { signal: abort.signal })).rejects.toThrow('stop')
        expect(ended).toBe(true)
      })

      test('stores nothing when the signal fires with the last chunk', async () => {
        const abort = new AbortController()
        const source = async function* () {
          yield Buffer.from('all of it')
          abort.abort(new Error('too late'))
        }
        await expect(storage.put('a', source(), { signal: abort.signal })).rejects.toThrow('too late')
        expect(await storage.stat('a')).toBeUndefined()
      })
    })

    describe('get', () => {
      const content = Buffer.from(Array.from({ length: 1000 }, (_, index) => index % 251))
      const range = (offset: number, length: number) =>
        readObject(storage, 'key', { range: { offset, length } })
      beforeEach(async () => {
        await storage.put('key', content)
      })

      test.each([
        { offset: 0, length: 1000 },
        { offset: 0, length: 1 },
        { offset: 999, length: 1 },
        { offset: 250, length: 500 },
      ])('gives the bytes of a range: %o', async ({ offset, length }) => {
        expect(await range(offset, length)).toEqual(content.subarray(offset, offset + length))
      })

      test('gives what there is of a range that reaches past the end', async () => {
        expect(await range(990, 5000)).toEqual(content.subarray(990))
        expect(await range(1000, 10)).toEqual(Buffer.alloc(0))
        expect(await range(5000, 10)).toEqual(Buffer.alloc(0))
      })

      test('gives nothing of an empty range, which is not the same as absent', async () => {
        expect(await range(0, 0)).toEqual(Buffer.alloc(0))
        expect(await range(500, 0)).toEqual(Buffer.alloc(0))
        expect(await range(1000, 0)).toEqual(Buffer.alloc(0))
      })

      test('stops when it is aborted', async () => {
        await storage.put('large', Buffer.alloc(8 * 1024 * 1024))
        const abort = new AbortController()
        const reading = async () => {
          for await (const _ of (await storage.get('large', { signal: abort.signal }))!) {
            abort.abort(new Error('enough'))
          }
        }
        await expect(reading()).rejects.toThrow('enough')
      })

      test('refuses to hold more than the limit in memory', async () => {
        expect((await readObject(storage, 'key', { limit: 1000 }))?.length).toBe(1000)
        await expect(readObject(storage, 'key', { limit: 999 })).rejects.toThrow(RangeError)
      })
    })

    describe('replaceStart', () => {
      test.each([
        ['a longer one', 100, 3, 10],
        ['a shorter one', 100, 10, 3],
        ['nothing', 100, 10, 0],
        ['more than there was, of all', 10, 10, 30],
        ['a longer one, of a large object', 17 * 1024 * 1024, 200, 400],
        ['a shorter one, of a large object', 17 * 1024 * 1024 + 1, 400, 200],
        ['a large one, of a large object', 12 * 1024 * 1024, 10, 7 * 1024 * 1024],
        ['the same, where the rest is one byte more than a part', 5 * 1024 * 1024 + 1, 100, 100],
      ])('gives an object another beginning: %s', async (_what, bytes, oldBytes, newBytes) => {
        const content = randomBytes(bytes)
        const start = randomBytes(newBytes)
        await storage.put('a/key', content)
        await storage.replaceStart('a/key', oldBytes, start)
        const expected = Buffer.concat([start, content.subarray(oldBytes)])
        expect((await readObject(storage, 'a/key'))?.equals(expected)).toBe(true)
        expect(await keys('')).toEqual(['a/key'])
      })

      test('of an object that is not there is an error, and stores nothing', async () => {
        await expect(storage.replaceStart('a/absent', 1, Buffer.from('x'))).rejects.toMatchObject({
          kind: 'repository',
          message: expect.stringMatching(/^cannot change .*a\/absent: it is not there$/),
        })
        expect(await keys('')).toEqual([])
      })

      test('leaves the object as it was when it is aborted', async () => {
        await storage.put('a/key', Buffer.from('old content'))
        const signal = AbortSignal.abort(new Error('stopped'))
        await expect(storage.replaceStart('a/key', 3, Buffer.from('new'), { signal })).rejects.toThrow(
          'stopped',
        )
        expect(await text('a/key')).toBe('old content')
      })
    })

    test('nothing is locked where the repository is not configured to lock', async () => {
      await storage.put('a/key', Buffer.from('x'), { immutable: true })
      await storage.lockUntil('a/key', new Date(Date.now() + 3_600_000))
      expect((await storage.stat('a/key'))?.lockedUntil).toBeUndefined()
      await storage.remove('a/key')
      expect(await keys('')).toEqual([])
    })

    test('a probe finds all well, and leaves nothing', async () => {
      await storage.put('a/key', Buffer.from('x'))
      const findings = await all(storage.probe())
      expect(findings.filter(({ verdict }) => verdict === 'fail')).toEqual([])
      expect(findings.map(({ subject }) => subject)).toEqual(
        expect.arrayContaining(['write an object', 'read an object', 'list objects', 'remove an object']),
      )
      expect(await keys('')).toEqual(['a/key'])
      const stored = await all(storage.list(''))
      const looked = await all(storage.probe(undefined, { readOnly: true }))
      expect(looked.map(({ subject }) => subject)).not.toContain('write an object')
      expect(looked[0]).toMatchObject({ subject: 'list objects', verdict: 'pass' })
      expect(await all(storage.list(''))).toEqual(stored)
      await expect(all(storage.probe(AbortSignal.abort(new Error('stopped'))))).rejects.toThrow('stopped')
    })

    test('absent is a result everywhere and never an error', async () => {
      await storage.put('a/b', Buffer.from('x'))
      for (const key of ['absent', 'a', 'a/absent', 'a/b/below', 'no/such/folder']) {
        expect(await storage.get(key), key).toBeUndefined()
        expect(await storage.stat(key), key).toBeUndefined()
        await expect(storage.remove(key), key).resolves.toBeUndefined()
        expect(await keys(`${key}/`), key).toEqual(key === 'a' ? ['a/b'] : [])
      }
      expect(await all(storage.folders('absent/'))).toEqual([])
      expect(await all(storage.names('absent/'))).toEqual([])
      expect(await text('a/b')).toBe('x')
    })

    test('a key that is taken by a folder does not pass for a stored object', async () => {
      await storage.put('a/b', Buffer.from('x'))
      const result = await storage.put('a', Buffer.from('y'), { ifAbsent: true }).catch(() => 'refused')
      expect(result).toBe((await text('a')) === 'y' ? 'stored' : 'refused')
    })

    test('stat tells size and age', async () => {
      const before = Date.now()
      await storage.put('a/key', Buffer.alloc(1234))
      const facts = await storage.stat('a/key')
      expect(facts).toMatchObject({ key: 'a/key', bytes: 1234 })
      expect(Math.abs(facts!.modified.getTime() - before)).toBeLessThan(60_000)
    })

    test('a removed object is gone, its neighbours stay', async () => {
      for (const key of ['a/b/one', 'a/b/two', 'a/c']) await storage.put(key, Buffer.from(key))
      await storage.remove('a/b/one')
      expect(await storage.get('a/b/one')).toBeUndefined()
      expect(await keys('')).toEqual(['a/b/two', 'a/c'])
      await storage.remove('a/b/two')
      expect(await all(storage.folders('a/'))).toEqual([])
      await storage.put('a/b/three', Buffer.from('again'))
      expect(await keys('')).toEqual(['a/b/three', 'a/c'])
    })

    test('objects can be written into a folder from which the last one is removed at the same moment', async () => {
      for (let round = 0; round < 20; round++) {
        await storage.put('folder/below/old', Buffer.from('old'))
        await Promise.all([
          storage.remove('folder/below/old'),
          storage.put('folder/below/new', Buffer.from('new')),
        ])
        expect(await text('folder/below/new')).toBe('new')
        await storage.remove('folder/below/new')
      }
    })

    describe('keys', () => {
      test.each([
        '',
        '.',
        '..',
        '../x',
        'a/../../x',
        'a/../b',
        '/x',
        'x/',
        'a//b',
        'a/./b',
        '.hidden',
        'a/.hidden',
        'a\0b',
        'a\\b',
        'a b',
        'a\nb',
        'ä',
        'a?b',
        'a%2fb',
        'k'.repeat(901),
      ])('that are not plain are refused everywhere: %j', async (key) => {
        const refused = { kind: 'repository', message: expect.stringContaining('key') }
        for (const attempt of [
          () => storage.put(key, Buffer.from('x')),
          () => storage.put(key, Buffer.from('x'), { ifAbsent: true }),
          () => storage.get(key),
          () => storage.stat(key),
          () => storage.remove(key),
          () => storage.replaceStart(key, 0, Buffer.from('x')),
        ]) {
          await expect((async () => attempt())()).rejects.toMatchObject(refused)
          await expect((async () => attempt())()).rejects.toBeInstanceOf(PgrecallError)
        }
      })

      test.each(['../', '..', '/', '/etc/', 'a/../', 'a//', '.incoming/', '.', 'a/.', 'a\0'])(
        'that are not plain cannot be listed: %j',
        async (prefix) => {
          await storage.put('a/b', Buffer.from('x'))
          await expect((async () => all(storage.list(prefix)))()).rejects.toMatchObject({
            kind: 'repository',
          })
          await expect((async () => all(storage.folders(prefix)))()).rejects.toMatchObject({
            kind: 'repository',
          })
          await expect((async () => all(storage.names(prefix)))()).rejects.toMatchObject({
            kind: 'repository',
          })
        },
      )

      test.each(['a', 'A-Z_0+9=@.x', 'a/b.c/d..e', '20261120T231500Z-full/base.0001.tar.zst'])(
        'of plain characters work: %s',
        async (key) => {
          await storage.put(key, Buffer.from(key))
          expect(await text(key)).toBe(key)
          expect(await keys('')).toEqual([key])
        },
      )
    })

    describe('list', () => {
      const stored = ['a-b', 'a.b', 'a/b', 'a/b.c', 'a/c/d', 'a0', 'aB', 'ab/0', 'ab/z', 'b', 'b.c/d', 'b.d']
      beforeEach(async () => {
        for (const key of stored.toReversed()) await storage.put(key, Buffer.from(key))
      })

      test('is in the byte order of the keys, whatever are files and whatever are folders', async () => {
        const listed = await keys('')
        expect(listed).toEqual(stored)
        expect(listed).toEqual(listed.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))))
      })

      test.each([
        ['a', stored.filter((key) => key.startsWith('a'))],
        ['a/', ['a/b', 'a/b.c', 'a/c/d']],
        ['a/b', ['a/b', 'a/b.c']],
        ['ab', ['ab/0', 'ab/z']],
        ['ab/z', ['ab/z']],
        ['b.', ['b.c/d', 'b.d']],
        ['a/c/d', ['a/c/d']],
        ['a/c/d/', []],
        ['zz', []],
      ])('takes a prefix that may end inside a name: %j', async (prefix, expected) => {
        expect(await keys(prefix)).toEqual(expected)
      })

      test('goes on after any key, stored or not', async () => {
        const points = [...stored, '', 'a', 'a/', 'a/b/', 'a/bb', 'a/c', 'a/c/', 'a/c/z', 'aZ', 'b.c', 'zz']
        for (const startAfter of points) {
          expect(await keys('', startAfter), startAfter).toEqual(stored.filter((key) => key > startAfter))
          expect(await keys('a/', startAfter), startAfter).toEqual(
            stored.filter((key) => key.startsWith('a/') && key > startAfter),
          )
        }
      })

      test('tells each size and age', async () => {
        for (const facts of await all(storage.list('a/'))) {
          expect(facts.bytes).toBe(facts.key.length)
          expect(Math.abs(facts.modified.getTime() - Date.now())).toBeLessThan(60_000)
        }
      })

      test('names the folders below a prefix once each, in order', async () => {
        await storage.put('a/c/e', Buffer.from('x'))
        await storage.put('a/aa/e', Buffer.from('x'))
        expect(await all(storage.folders(''))).toEqual(['a', 'ab', 'b.c'])
        expect(await all(storage.folders('a/'))).toEqual(['aa', 'c'])
      })

      test('names the objects directly below a prefix, in order, and no folders', async () => {
        expect(await all(storage.names(''))).toEqual(['a-b', 'a.b', 'a0', 'aB', 'b', 'b.d'])
        expect(await all(storage.names('a/'))).toEqual(['b', 'b.c'])
        expect(await all(storage.names('a/c/'))).toEqual(['d'])
        expect(await all(storage.names('b.c/'))).toEqual(['d'])
      })

      test('stops when it is aborted', async () => {
        const abort = new AbortController()
        const reading = async () => {
          for await (const _ of storage.list('', { signal: abort.signal })) abort.abort(new Error('enough'))
        }
        await expect(reading()).rejects.toThrow('enough')
      })

      test('shows an object only when it is whole', async () => {
        const seen: string[][] = []
        await storage.put(
          'c',
          chunked(['1', '2', '3'], async () => void seen.push(await keys('c'))),
        )
        expect(seen).toEqual([[], [], []])
        expect(await keys('c')).toEqual(['c'])
      })
    })

    test('lists 1,100 objects, more than a page of S3, all of them, once, in order, also from the middle on', async () => {
      const names = Array.from({ length: 1100 }, (_, index) => `many/${index % 7}/${index}`)
      const queue = names.values()
      const putter = async () => {
        for (const name of queue) await storage.put(name, Buffer.from('x'))
      }
      await Promise.all(Array.from({ length: 16 }, putter))
      const sorted = names.toSorted()
      expect(await keys('many/')).toEqual(sorted)
      expect(await keys('many/', sorted[456])).toEqual(sorted.slice(457))
      expect(await all(storage.folders('many/'))).toEqual(['0', '1', '2', '3', '4', '5', '6'])
    })

    test('sweep leaves stored objects and the writes that are under way', async () => {
      await storage.put('kept', Buffer.from('kept'))
      await storage.put(
        'under/way',
        chunked(['a', 'b'], async () => void (await storage.sweep())),
      )
      expect(await text('under/way')).toBe('ab')
      expect(await text('kept')).toBe('kept')
      expect(await storage.sweep()).toEqual({ objects: 0, bytes: 0 })
    })

    test('its address is plain data', () => {
      expect(structuredClone(storage.address)).toEqual(storage.address)
      expect(storage.location).not.toBe('')
    })
  })
}

const MEBIBYTE = 1024 * 1024

/** So many MiB, one after the other in the same buffer. */
function* mebibytes(count: number): Iterable<Buffer> {
  const buffer = Buffer.alloc(MEBIBYTE)
  for (let number = 0; number < count; number++) yield buffer.fill(number)
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const item of items) found.push(item)
  return found
}

/** @param between is awaited before each chunk */
async function* chunked(texts: string[], between?: () => Promise<unknown>): AsyncIterable<Buffer> {
  for (const text of texts) {
    await between?.()
    yield Buffer.from(text)
  }
}

async function* failing(error: Error): AsyncIterable<Buffer> {
  yield Buffer.alloc(200_000, 'x')
  throw error
}
