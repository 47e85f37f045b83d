import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { type Holder, newHolder, RENEW_MS, SUSPECT_MS } from '../../src/catalog/holder.ts'
import { acquireLock, type LockOptions } from '../../src/catalog/lock.ts'
import { PgrecallError } from '../../src/errors.ts'
import { readObject, type Storage } from '../../src/storage/storage.ts'
import { poll } from '../lab/poll.ts'
import { Scratch } from '../lab/scratch.ts'
import { randomFrom } from '../random.ts'
import { keysOf, range } from './stored.ts'
import { STORES } from './stores.ts'

const SOURCE = fileURLToPath(new URL('../../src/', import.meta.url))
const FIRST = 'main/locks/0000000001.json'
const NOW = new Date('2026-11-20T12:00:00Z')

let scratch: Scratch
let storage: Storage
let warnings: string[]
let pauses: number[]

beforeAll(async () => {
  scratch = await Scratch.create('lock')
})
afterAll(() => scratch[Symbol.asyncDispose]())
beforeEach(() => {
  warnings = []
  pauses = []
})

const options = (more: Partial<LockOptions> = {}): LockOptions => ({
  purpose: 'backup',
  now: () => NOW,
  onWarning: (text) => warnings.push(text),
  pause: async (ms) => void pauses.push(ms),
  ...more,
})
const acquire = (more?: Partial<LockOptions>) => acquireLock(storage, 'main', options(more))
const busy = expect.objectContaining({ kind: 'busy' })
const put = (key: string, holder: unknown) => storage.put(key, Buffer.from(JSON.stringify(holder)))
const read = async (key: string) => JSON.parse(String(await readObject(storage, key))) as Holder
/** The numbers under which locks lie, in order. */
const locked = async () =>
  (await keysOf(storage, 'main/locks/')).map((key) => Number(/\/0*(\d+)[^/]*$/.exec(key)![1]))
/** The key of the only lock. */
const onlyKey = async () => {
  const keys = await keysOf(storage)
  expect(keys).toHaveLength(1)
  return keys[0]!
}

describe.each(STORES)('in $name', ({ open, missing }) => {
  beforeEach(async (context) => {
    if (missing !== undefined) context.skip(missing)
    storage = await open(scratch)
  })

  test('a lock is taken, keeps others out, and is free again when it was released', async () => {
    {
      await using lock = await acquire()
      expect(lock.lost.aborted).toBe(false)
      expect(await locked()).toEqual([1])
      await expect(acquire({ purpose: 'retention' })).rejects.toThrow(
        `cluster "main" in ${storage.location} is locked by backup (process ${process.pid} on ${hostname()}`,
      )
      expect(await locked()).toEqual([1])
    }
    expect(await keysOf(storage)).toEqual([])
    await using _again = await acquire()
  })

  test('clusters do not lock each other', async () => {
    await using _one = await acquireLock(storage, 'one', options())
    await using _two = await acquireLock(storage, 'two', options())
  })

  describe('a process on this host', () => {
    const children: ChildProcess[] = []
    afterEach(() => {
      for (const child of children) child.kill('SIGKILL')
    })

    test('keeps its lock while it lives, however long it is silent', async () => {
      await holderProcess()
      const tomorrow = new Date(Date.now() + 24 * 3_600_000)
      await expect(acquire({ now: () => tomorrow })).rejects.toEqual(busy)
      expect(pauses).toEqual([])
    })

    test('loses it at once when it was killed', async () => {
      const child = await holderProcess()
      const exited = once(child, 'exit')
      child.kill('SIGKILL')
      await exited
      await using _lock = await acquire({ now: () => new Date() })
      expect(warnings).toEqual([
        expect.stringMatching(/^broke the lock that backup \(process \d+ on .* left behind$/),
      ])
      expect(pauses).toEqual([])
      expect(await locked()).toEqual([2])
    })

    test('is not taken for the one that had its number before', async () => {
      await put(FIRST, { ...(await newHolder('backup', NOW)), processStart: '1' })
      await using _lock = await acquire()
      expect(warnings).toHaveLength(1)
    })

    test('in another container with the same host name keeps its lock', async (context) => {
      const through = ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc']
      if (spawnSync(through[0]!, [...through.slice(1), 'true']).status !== 0) {
        context.skip('no process namespace of its own can be made here')
      }
      await holderProcess(through)
      await expect(acquire({ now: () => new Date() })).rejects.toEqual(busy)
      expect(warnings).toEqual([])
    })

    /** Resolves when it has the lock. */
    async function holderProcess(through: string[] = []): Promise<ChildProcess> {
      const script = `
        const { openStorage } = await import(${JSON.stringify(join(SOURCE, 'storage/open.ts'))})
        const { acquireLock } = await import(${JSON.stringify(join(SOURCE, 'catalog/lock.ts'))})
        const storage = openStorage(${JSON.stringify(storage.address)})
        await acquireLock(storage, 'main', { purpose: 'backup', now: () => new Date() })
        process.stdout.write('held')
        process.stdin.resume()`
      const [program, ...args] = [...through, process.execPath, '--input-type=module', '-e', script]
      const child = spawn(program!, args, { stdio: ['pipe', 'pipe', 'inherit'] })
      children.push(child)
      await once(child.stdout!, 'data')
      return child
    }
  })

  describe('a holder on another host', () => {
    const foreign = async (renewedAt: string): Promise<Holder> => ({
      ...(await newHolder('backup', NOW)),
      host: 'elsewhere',
      renewedAt,
    })
    const ago = (ms: number) => new Date(NOW.getTime() - ms).toISOString()

    test('that renewed a moment ago keeps its lock', async () => {
      await put(FIRST, await foreign(ago(SUSPECT_MS - 1000)))
      await expect(acquire()).rejects.toEqual(busy)
      expect(pauses).toEqual([])
    })

    test.each([
      ['has been silent for long', ago(SUSPECT_MS + 1000)],
      ['has a clock that is far ahead', ago(-SUSPECT_MS - 1000)],
      ['wrote no time that can be read', 'yesterday'],
    ])('that %s is watched, and its lock broken when it does not renew', async (_what, renewedAt) => {
      await put(FIRST, await foreign(renewedAt))
      await using _lock = await acquire()
      expect(pauses).toEqual(Array.from({ length: 8 }, () => RENEW_MS / 2))
      expect(warnings).toEqual([
        expect.stringContaining('watching it'),
        expect.stringContaining('broke the lock that backup'),
      ])
      expect(await locked()).toEqual([2])
    })

    test('that renews while it is watched keeps its lock, whatever its clock says', async () => {
      const holder = await foreign(ago(2 * SUSPECT_MS))
      await put(FIRST, holder)
      const renewing = acquire({
        pause: async () => put(FIRST, { ...holder, renewedAt: ago(2 * SUSPECT_MS - 30_000) }),
      })
      await expect(renewing).rejects.toEqual(busy)
      expect(await locked()).toEqual([1])
    })

    test('whose lock somebody else takes while it is watched is left to that one', async () => {
      await put(FIRST, await foreign(ago(2 * SUSPECT_MS)))
      const watching = acquire({ pause: async () => put(FIRST, await foreign(ago(0))) })
      await expect(watching).rejects.toEqual(busy)
    })

    test('that releases while it is watched makes way', async () => {
      await put(FIRST, await foreign(ago(2 * SUSPECT_MS)))
      await using _lock = await acquire({ pause: () => storage.remove(FIRST) })
    })

    test('is not waited for once the operation is aborted', async () => {
      await put(FIRST, await foreign(ago(2 * SUSPECT_MS)))
      const { pause: _own, ...real } = options({ signal: AbortSignal.abort(new Error('stopped')) })
      await expect(acquireLock(storage, 'main', real)).rejects.toThrow(/abort/i)
      expect(await locked()).toEqual([1])
    })
  })

  test('a record that cannot be read, as a crash of the store leaves it, is broken', async () => {
    await storage.put(FIRST, Buffer.from('{"id": "'))
    await using _lock = await acquire()
    expect(await locked()).toEqual([2])
  })

  test('a view of the locks that is outdated when it is acted upon gives no lock', async () => {
    await put(FIRST, { ...(await newHolder('backup', NOW)), processStart: '1' })
    await using stack = new AsyncDisposableStack()
    let isOutdated = false
    // Between its look and its write, another one breaks the dead lock and ends, and a third one begins anew.
    const late = Object.assign(Object.create(storage) as Storage, {
      location: storage.location,
      get: (...args: Parameters<Storage['get']>) => storage.get(...args),
      list: (...args: Parameters<Storage['list']>) => storage.list(...args),
      remove: (key: string) => storage.remove(key),
      put: async (...args: Parameters<Storage['put']>) => {
        if (!isOutdated) {
          isOutdated = true
          await (await acquire())[Symbol.asyncDispose]()
          stack.use(await acquire())
          expect(await locked()).toEqual([1])
        }
        return storage.put(...args)
      },
    })
    await expect(acquireLock(late, 'main', options())).rejects.toEqual(busy)
    expect(await locked()).toEqual([1])
  })

  describe('of many at the same moment', () => {
    test.each(range(1, 8))('at most one gets the lock, and all leave nothing (seed %d)', async (seed) => {
      const random = randomFrom(seed)
      const jittery = withDelays(storage, random)
      if (seed % 2 === 0) await put(FIRST, { ...(await newHolder('backup', NOW)), processStart: '1' })
      let holding = 0
      let most = 0
      let got = 0
      const contender = async () => {
        const own = options({ pause: () => ticks(Math.floor(random() * 40)) })
        try {
          await using _lock = await acquireLock(jittery, 'main', own)
          got++
          most = Math.max(most, ++holding)
          await ticks(Math.floor(random() * 60))
          holding--
        } catch (error) {
          if (!(error instanceof PgrecallError && error.kind === 'busy')) throw error
        }
      }
      await Promise.all(Array.from({ length: 6 }, contender))
      expect(most).toBeLessThanOrEqual(1)
      expect(await keysOf(storage)).toEqual([])
      if (got === 0) await (await acquire())[Symbol.asyncDispose]()
    })
  })

  describe('while it is held', () => {
    beforeEach(() => void vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] }))
    afterEach(() => void vi.useRealTimers())

    test('a lock is renewed', async () => {
      let now = NOW
      await using lock = await acquire({ now: () => now })
      const key = await onlyKey()
      for (const minutes of [1, 2]) {
        now = new Date(NOW.getTime() + minutes * 60_000)
        vi.advanceTimersByTime(RENEW_MS)
        await poll(async () => (await read(key)).renewedAt === now.toISOString(), { what: 'the renewal' })
      }
      expect((await read(key)).since).toBe(NOW.toISOString())
      expect(lock.lost.aborted).toBe(false)
    })

    test('a lock that another host broke is lost: the work stops, and the other one keeps it', async () => {
      const other = { ...(await newHolder('retention', NOW)), host: 'elsewhere' }
      const second = 'main/locks/0000000002.json'
      {
        await using lock = await acquire()
        const key = await onlyKey()
        await put(second, other)
        await storage.remove(key)
        vi.advanceTimersByTime(RENEW_MS)
        await poll(() => lock.lost.aborted, { what: 'the loss of the lock' })
        expect(lock.lost.reason).toEqual(busy)
      }
      expect(await keysOf(storage)).toEqual([second])
    })

    test('a lock that was broken is not confirmed, although a late renewal has put it back', async () => {
      const second = 'main/locks/0000000002.json'
      await using lock = await acquire()
      await lock.confirm()
      await put(second, { ...(await newHolder('retention', NOW)), host: 'elsewhere' })
      await expect(lock.confirm()).rejects.toEqual(busy)
      await storage.remove(second)
    })

    test('a claim of somebody who came at the same moment, and gives way, does not look like the loss of a lock', async () => {
      let now = NOW
      await using lock = await acquire({ now: () => now })
      const key = await onlyKey()
      const late = 'main/locks/0000000001-zzzz.json'
      await put(late, { ...(await newHolder('retention', NOW)), host: 'elsewhere' })
      now = new Date(NOW.getTime() + 30_000)
      vi.advanceTimersByTime(RENEW_MS)
      await poll(async () => (await read(key)).renewedAt === now.toISOString(), { what: 'the renewal' })
      expect(lock.lost.aborted).toBe(false)
      await storage.remove(late)
    })

    test('a lock that another host broke, which may only empty it, is lost', async () => {
      await using lock = await acquire()
      await storage.put(await onlyKey(), new Uint8Array(0))
      await expect(lock.confirm()).rejects.toEqual(busy)
      vi.advanceTimersByTime(RENEW_MS)
      await poll(() => lock.lost.aborted, { what: 'the loss of the lock' })
    })

    test('a renewal that fails is told, and the next one may succeed', async () => {
      let fails = false
      const flaky = Object.assign(Object.create(storage) as Storage, {
        get: (...args: Parameters<Storage['get']>) => storage.get(...args),
        list: (...args: Parameters<Storage['list']>) => storage.list(...args),
        remove: (key: string) => storage.remove(key),
        put: async (...args: Parameters<Storage['put']>) => {
          if (fails) throw new PgrecallError('repository', 'the network is down')
          return storage.put(...args)
        },
      })
      let now = NOW
      await using lock = await acquireLock(flaky, 'main', options({ now: () => now }))
      const key = await onlyKey()
      fails = true
      now = new Date(NOW.getTime() + 30_000)
      vi.advanceTimersByTime(RENEW_MS)
      await poll(() => warnings.length > 0, { what: 'the warning' })
      expect(warnings[0]).toBe('could not renew the lock: the network is down')
      fails = false
      vi.advanceTimersByTime(RENEW_MS)
      await poll(async () => (await read(key)).renewedAt === now.toISOString(), { what: 'the renewal' })
      expect(lock.lost.aborted).toBe(false)
    })
  })
})

/** The same storage, whose answers come later, each by another while, and which has never heard of `ifAbsent`. */
function withDelays(storage: Storage, random: () => number): Storage {
  const late = () => ticks(Math.floor(random() * 12))
  return Object.assign(Object.create(storage) as Storage, {
    put: async (...[key, source]: Parameters<Storage['put']>) => {
      await late()
      await storage.put(key, source)
      await late()
      return 'stored'
    },
    get: async (...args: Parameters<Storage['get']>) => {
      await late()
      return storage.get(...args)
    },
    remove: async (key: string) => {
      await late()
      await storage.remove(key)
    },
    list: async function* (...args: Parameters<Storage['list']>) {
      await late()
      yield* storage.list(...args)
    },
    location: storage.location,
  })
}

/** Lets so many turns of the event loop pass. */
async function ticks(turns: number): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve))
}
