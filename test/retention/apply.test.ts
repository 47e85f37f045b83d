import { rm, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Catalog, loadCatalog, saveCatalog, updateCatalog } from '../../src/catalog/catalog.ts'
import { chainOf } from '../../src/catalog/chain.ts'
import { newHolder } from '../../src/catalog/holder.ts'
import { claimIdentity } from '../../src/catalog/identity.ts'
import { catalogKey, droppedKey, receivingKey, walKey } from '../../src/catalog/layout.ts'
import { acquireLock } from '../../src/catalog/lock.ts'
import { pinBackup } from '../../src/catalog/pin.ts'
import { PgrecallError } from '../../src/errors.ts'
import { Events } from '../../src/events.ts'
import { segmentName } from '../../src/postgres/wal-file.ts'
import { applyRetention, previewRetention, type RetentionContext } from '../../src/retention/apply.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { readObject, type Storage } from '../../src/storage/storage.ts'
import {
  increment,
  keysOf,
  logicalRecord,
  MIB,
  range,
  record,
  recordOf,
  SEGMENT,
  storeBackup,
  storeLogical,
  storeWal,
} from '../catalog/stored.ts'
import { plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'

const IDS = [1, 2, 3].map((day) => `2026110${day}T120000Z-full`)
const now = () => new Date()

let scratch: Scratch
let storage: LocalStorage
let count = 0
beforeAll(async () => {
  scratch = await Scratch.create('retention')
})
afterAll(() => scratch[Symbol.asyncDispose]())
beforeEach(async () => {
  storage = new LocalStorage(join(scratch.path, `repository-${++count}`))
  await claimIdentity(storage, 'main', { systemIdentifier: '7400000000000000001', walSegmentBytes: SEGMENT })
  for (const [index, id] of IDS.entries()) await storeBackup(storage, record(id, { first: 10 * (index + 1) }))
  await storeWal(storage, range(5, 35))
  await storage.put(walKey('main', '00000002.history'), Buffer.from('1\t0/30000000\n'))
  await storage.put(walKey('main', `${name(10)}.00000028.backup`), Buffer.from('x'))
  await storage.put(walKey('main', `${name(30)}.00000028.backup`), Buffer.from('x'))
})

const name = (number: number) => segmentName(1, BigInt(number), SEGMENT)
const context = (over: Storage = storage, warnings: string[] = []): RetentionContext => ({
  repository: plainRepository('local', over),
  events: new Events().on('warning', ({ text }) => warnings.push(text)),
  signal: new AbortController().signal,
  now,
})
const backups = async () => (await loadCatalog(storage, 'main')).backups.map(({ id }) => id)
const walNames = async () =>
  (await keysOf(storage, 'main/wal/')).map((key) => key.slice(key.lastIndexOf('/') + 1, -'.zst'.length))

test('the preview changes nothing, and shows the very plan that is carried out then', async () => {
  await storage.put(
    'main/pins/dead.json',
    Buffer.from(
      JSON.stringify({ ...(await newHolder('restore', now())), processStart: '1', backup: IDS[0] }),
    ),
  )
  const before = await keysOf(storage)
  const preview = await previewRetention('main', { full: 1 }, context())
  expect(await keysOf(storage)).toEqual(before)
  const { plan, ...done } = await applyRetention('main', { full: 1 }, context())
  expect(plan).toEqual(preview)
  expect(await backups()).toEqual(plan.backups.filter(({ stays }) => stays).map(({ id }) => id))
  const segments = plan.wal.reduce((sum, run) => sum + run.segments, 0)
  expect(segments).toBe(25)
  // Beside the segments, the label of the removed backup.
  expect(done).toMatchObject({ removedBackups: 2, removedWal: segments + 1, removedSegments: segments })
  expect(await walNames()).toEqual([
    ...range(30, 35).flatMap((number) =>
      number === 30 ? [`${name(30)}.00000028.backup`, name(30)] : [name(number)],
    ),
    '00000002.history',
  ])
  expect((await keysOf(storage)).filter((key) => /locks|pins/.test(key))).toEqual([])
})

test('the bytes that are told are those that are gone', async () => {
  const bytes = async () => {
    let sum = 0
    for await (const object of storage.list('')) if (!object.key.endsWith('catalog.json')) sum += object.bytes
    return sum
  }
  const before = await bytes()
  const { freedBytes } = await applyRetention('main', { full: 2 }, context())
  expect(freedBytes).toBe(before - (await bytes()))
})

test('of older backups only the WAL stays that makes them consistent, and the catalog knows the holes', async () => {
  const rules = { full: 3, wal: 24 * 60 * 60_000 }
  const stored = new Date('2026-11-01T12:01:00Z')
  await utimes(join(storage.location, walKey('main', name(10))), stored, stored)
  const { plan, removedSegments } = await applyRetention('main', rules, context())
  expect(removedSegments).toBe(5 + 9 + 9)
  expect(plan.wal.reduce((sum, run) => sum + run.segments, 0)).toBe(removedSegments)
  expect(await walNames()).toContain(`${name(10)}.00000028.backup`)
  const runs = ({ wal }: Catalog) =>
    wal[0]!.ranges.map(({ first, last, segments, storedBytes }) => [first, last, segments, storedBytes])
  const believed = await loadCatalog(storage, 'main', { believing: true })
  expect(believed.wal[0]!.ranges[0]!.newestStoredAt).toBe(stored.toISOString())
  const left = runs(await loadCatalog(storage, 'main', { fresh: true }))
  expect(left).toEqual([
    [name(10), name(10), 1, 10],
    [name(20), name(20), 1, 10],
    [name(30), name(35), 6, 60],
  ])
  expect(runs(await loadCatalog(storage, 'main', { believing: true }))).toEqual(left)
  expect(await applyRetention('main', rules, context())).toMatchObject({ removedBackups: 0, removedWal: 0 })
})

test('of WAL that is thinned out nothing goes behind a file that the store keeps; the next run goes on', async () => {
  const rules = { full: 3, wal: 24 * 60 * 60_000 }
  const kept = walKey('main', name(13))
  const locking = Object.assign(Object.create(storage) as Storage, viewOf(storage), {
    remove: async (key: string) => {
      if (key === kept) throw new PgrecallError('refused', 'a legal hold')
      await storage.remove(key)
    },
  })
  const runs = async () =>
    (await loadCatalog(storage, 'main', { fresh: true })).wal[0]!.ranges.map(({ first, last }) => [
      first,
      last,
    ])
  const { lockedWal, refusals } = await applyRetention('main', rules, context(locking))
  expect([lockedWal.map((wal) => wal.name), refusals]).toEqual([[name(13)], ['a legal hold']])
  expect(await runs()).toEqual([
    [name(10), name(10)],
    [name(13), name(35)],
  ])
  await applyRetention('main', rules, context())
  expect(await runs()).toEqual([
    [name(10), name(10)],
    [name(20), name(20)],
    [name(30), name(35)],
  ])
})

test('what is thinned out is noted before it goes, also where there is room for the note only behind it', async () => {
  const rules = { full: 3, wal: 24 * 60 * 60_000 }
  let isFull = true
  const full = Object.assign(Object.create(storage) as Storage, viewOf(storage), {
    put: async (...args: Parameters<Storage['put']>) => {
      if (isFull && args[0].endsWith('wal-thinned.json')) throw new Error('ENOSPC')
      return storage.put(...args)
    },
    remove: async (key: string) => {
      if (key.includes('/wal/')) isFull = false
      await storage.remove(key)
    },
  })
  await applyRetention('main', rules, context(full))
  expect((await loadCatalog(storage, 'main')).wal[0]).toMatchObject({ thinnedBefore: name(30) })
  // Of WAL that goes from its beginning on, there is nothing to be noted.
  await applyRetention('main', { full: 1 }, context())
  expect((await loadCatalog(storage, 'main')).wal[0]).toMatchObject({ thinnedBefore: name(30) })
})

test('a second run finds nothing to do', async () => {
  await applyRetention('main', { full: 2 }, context())
  const before = await keysOf(storage)
  expect(await applyRetention('main', { full: 2 }, context())).toMatchObject({
    removedBackups: 0,
    removedWal: 0,
    freedBytes: 0,
  })
  expect(await keysOf(storage)).toEqual(before)
})

test('a backup that is being read stays with its WAL', async () => {
  await using _pin = await pinBackup(storage, 'main', IDS[0]!, 'restore', now)
  const result = await applyRetention('main', { full: 1 }, context())
  expect(await backups()).toEqual([IDS[0], IDS[2]])
  expect(await walNames()).toContain(name(10))
  expect(result.removedBackups).toBe(1)
})

test('a restore that begins while it runs keeps its backup, and the WAL from there on', async () => {
  await using stack = new AsyncDisposableStack()
  let pinned = false
  const pinning = Object.assign(Object.create(storage) as Storage, viewOf(storage), {
    remove: async (key: string) => {
      if (key === `main/backups/${IDS[0]}/backup.json` && !pinned) {
        pinned = true
        stack.use(await pinBackup(storage, 'main', IDS[1]!, 'restore', now))
      }
      await storage.remove(key)
    },
  })
  await applyRetention('main', { full: 1 }, context(pinning))
  expect(await backups()).toEqual([IDS[1], IDS[2]])
  expect(await walNames()).toContain(name(20))
  expect(await walNames()).not.toContain(name(19))
})

test('a backup whose record was damaged after the catalog was written is not counted as kept', async () => {
  await saveCatalog(storage, await loadCatalog(storage, 'main'), now())
  await storage.put(`main/backups/${IDS[2]}/backup.json`, Buffer.from('{'))
  const warnings: string[] = []
  const before = await walNames()
  await applyRetention('main', { full: 1 }, context(storage, warnings))
  expect((await loadCatalog(storage, 'main', { fresh: true })).backups.map(({ id }) => id)).toEqual([IDS[1]])
  expect(await keysOf(storage, `main/backups/${IDS[2]}/`)).toHaveLength(2)
  expect(await walNames()).toEqual(before)
  expect(warnings).toEqual([expect.stringContaining(`backup ${IDS[2]} cannot be read`)])
})

test('a backup that lost its record is a loss and no debris, until a person removes what is left of it', async () => {
  await saveCatalog(storage, await loadCatalog(storage, 'main'), now())
  await storage.remove(`main/backups/${IDS[1]}/backup.json`)
  const before = await walNames()
  const warningsOf = async () => {
    const warnings: string[] = []
    await applyRetention('main', { full: 1 }, context(storage, warnings))
    return warnings
  }
  for (const run of [1, 2]) {
    // As a backup does, or a status, before the retention of the next night.
    await updateCatalog(storage, 'main', now())
    expect(await warningsOf(), `run ${run}`).toEqual([
      expect.stringMatching(`backup ${IDS[1]} has lost its backup.json.*"pgrecall verify --repair"`),
    ])
    expect(await keysOf(storage, `main/backups/${IDS[1]}/`), `run ${run}`).toHaveLength(1)
    expect(await walNames(), `run ${run}`).toEqual(before)
  }
  await rm(join(storage.location, 'main/backups', IDS[1]!), { recursive: true })
  expect(await warningsOf()).toEqual([])
  expect(await walNames()).not.toContain(name(29))
})

test('killed, it is ended by the next run also where who had looked before put back into the catalog what goes', async () => {
  await saveCatalog(storage, await loadCatalog(storage, 'main'), now())
  const looked = (await readObject(storage, catalogKey('main')))!
  const dying = Object.assign(Object.create(storage) as Storage, viewOf(storage), {
    remove: async (key: string) => {
      if (key.endsWith(`${IDS[1]}/base.0001.tar.zst`)) throw new Error('killed')
      await storage.remove(key)
      if (key.endsWith(`${IDS[0]}/backup.json`)) await storage.put(catalogKey('main'), looked)
    },
  })
  await expect(applyRetention('main', { full: 1 }, context(dying))).rejects.toThrow('killed')
  expect(await keysOf(storage, `main/backups/${IDS[1]}/`)).toHaveLength(1)
  const warnings: string[] = []
  await applyRetention('main', { full: 1 }, context(storage, warnings))
  expect(await keysOf(storage, `main/backups/${IDS[1]}/`)).toEqual([])
  expect(warnings).toEqual([])
})

test('where clocks are days apart nothing goes by its time, which is told before anything else goes', async () => {
  const DAY = 24 * 60 * 60_000
  const before = [await backups(), await walNames()]
  const told: string[] = []
  const tomorrow = {
    ...context(),
    events: new Events()
      .on('warning', ({ text }) => told.push(text))
      .on('step', ({ text }) => told.push(text)),
    now: () => new Date(Date.now() + DAY + 60_000),
  }
  const clocks = expect.stringMatching(
    /by this host's clock.*nothing goes by a rule that counts days or hours/,
  )
  for (const rules of [
    { window: DAY, wal: DAY },
    { full: 1, daily: 1 },
  ]) {
    const { plan } = await applyRetention('main', rules, tomorrow)
    expect(plan.frees).toMatchObject({ backups: 0, segments: 0 })
    expect([await backups(), await walNames()]).toEqual(before)
    expect(told.splice(0)).toEqual([clocks])
  }
  // A count asks no clock.
  await applyRetention('main', { full: 2, wal: DAY }, tomorrow)
  expect(await backups()).toEqual(IDS.slice(1))
  expect(await walNames()).toContain(name(25))
  expect(told[0]).toEqual(clocks)
})

test('without cluster.json no WAL goes that a backup needs, whatever the size of the segments is', async () => {
  const other = new LocalStorage(join(scratch.path, `repository-${++count}`))
  for (const [index, id] of IDS.entries()) {
    await storeBackup(other, record(id, { first: 12_290 + 10 * index, walSegmentBytes: MIB }))
  }
  await storeWal(other, range(12_285, 12_320), { segmentBytes: MIB })
  await applyRetention('main', { full: 2 }, context(other))
  expect((await keysOf(other, 'main/wal/')).length).toBe(12_320 - 12_300 + 1)
})

test('while a backup holds the lock nothing is removed', async () => {
  await using _lock = await acquireLock(storage, 'main', { purpose: 'backup', now })
  const before = await keysOf(storage)
  await expect(applyRetention('main', { full: 1 }, context())).rejects.toMatchObject({ kind: 'busy' })
  expect(await keysOf(storage)).toEqual(before)
})

test('killed at any removal it leaves whole backups and WAL without a hole; the next run ends the work', async () => {
  for (let survived = 0; ; survived++) {
    const victim = new LocalStorage(join(scratch.path, `repository-${++count}`))
    for (const [index, id] of IDS.entries()) await storeBackup(victim, record(id, { first: 10 + 2 * index }))
    await storeWal(victim, range(8, 15))
    let removals = 0
    const dying = Object.assign(Object.create(victim) as Storage, viewOf(victim), {
      remove: async (key: string) => {
        if (!key.includes('/locks/') && removals++ >= survived) throw new Error('killed')
        await victim.remove(key)
      },
    })
    const done = await applyRetention('main', { full: 2 }, context(dying)).catch(() => undefined)
    const { backups: left, wal } = await loadCatalog(victim, 'main', { fresh: true })
    expect(
      left.map(({ id }) => id),
      `after ${survived} removals`,
    ).toEqual(survived === 0 ? IDS : IDS.slice(1))
    expect(wal[0]!.ranges, `after ${survived} removals`).toHaveLength(1)
    expect(wal[0]!.ranges[0]!.last).toBe(name(15))
    for (const { id } of left) expect(await keysOf(victim, `main/backups/${id}/`)).toHaveLength(2)
    if (done) break
    await applyRetention('main', { full: 2 }, context(victim))
    expect((await loadCatalog(victim, 'main')).wal[0]!.ranges[0]!.first).toBe(name(12))
    expect(await keysOf(victim, `main/backups/${IDS[0]}/`)).toEqual([])
  }
})

describe('a chain', () => {
  const FULL = record('20261104T120000Z-full', { first: 40 })
  const FIRST = recordOf(increment('20261105T120000Z-incr', FULL, { first: 42 }))
  const SECOND = recordOf(increment('20261106T120000Z-incr', FIRST, { first: 44 }))
  const NEXT = record('20261107T120000Z-full', { first: 46 })
  const CHAIN = [FULL, FIRST, SECOND, NEXT]
  const left = async (of: Storage) => (await loadCatalog(of, 'main', { fresh: true })).backups
  const ids = async (of: Storage) => (await left(of)).map(({ id }) => id)
  const refusing = (of: Storage, refuse: (key: string) => Promise<void>): Storage =>
    Object.assign(Object.create(of) as Storage, viewOf(of), {
      remove: async (key: string) => {
        await refuse(key)
        await of.remove(key)
      },
    })
  let victim: LocalStorage
  beforeEach(async () => {
    victim = await chainStorage()
  })

  async function chainStorage(): Promise<LocalStorage> {
    const made = new LocalStorage(join(scratch.path, `repository-${++count}`))
    await claimIdentity(made, 'main', { systemIdentifier: '7400000000000000001', walSegmentBytes: SEGMENT })
    for (const backup of CHAIN) await storeBackup(made, backup)
    await storeWal(made, range(38, 48))
    return made
  }

  test('is whole, as far as it is there, at whichever removal a run is killed', async () => {
    for (let survived = 0; ; survived++) {
      const storage = await chainStorage()
      await saveCatalog(storage, await loadCatalog(storage, 'main'), now())
      let removals = 0
      const dying = refusing(storage, async (key) => {
        if (!key.includes('/locks/') && removals++ >= survived) throw new Error('killed')
      })
      const done = await applyRetention('main', { full: 1 }, context(dying)).catch(() => undefined)
      const stored = await left(storage)
      for (const backup of stored)
        expect(chainOf(stored, backup).missing, `after ${survived} removals`).toBeUndefined()
      if (done || (await keysOf(storage, 'main/backups/')).every((key) => key.includes(NEXT.id))) break
      // Who looks, or loses the catalog, between the two hides nothing from the next run.
      if (survived % 3 === 1) await updateCatalog(storage, 'main', now())
      if (survived % 3 === 2) await storage.remove(catalogKey('main'))
      const warnings: string[] = []
      await applyRetention('main', { full: 1 }, context(storage, warnings))
      expect(await keysOf(storage, 'main/backups/'), `after ${survived} removals`).toEqual(
        expect.not.arrayContaining([expect.not.stringContaining(NEXT.id)]),
      )
      expect(await keysOf(storage, 'main/wal/')).toHaveLength(3)
      expect(warnings).toEqual([])
    }
  })

  test('that lost a record loses nothing else, whichever it was, and whether or not the catalog knew of it', async () => {
    for (const lost of [FULL, FIRST])
      for (const isKnown of [true, false]) {
        const storage = await chainStorage()
        if (isKnown) await saveCatalog(storage, await loadCatalog(storage, 'main'), now())
        await storage.remove(`main/backups/${lost.id}/backup.json`)
        // Of the full one below it nothing tells any more that the chain needs it.
        if (lost === FIRST && !isKnown) await storage.remove(`main/backups/${FULL.id}/backup.json`)
        const before = (await keysOf(storage)).filter((key) => !key.endsWith('catalog.json'))
        const warnings: string[] = []
        await applyRetention('main', { full: 3 }, context(storage, warnings))
        expect(await keysOf(storage), `${lost.id}, ${isKnown}`).toEqual(expect.arrayContaining(before))
        expect(warnings).toContainEqual(
          expect.stringMatching(`${lost.id} has lost .*"pgrecall verify --repair"`),
        )
      }
  })

  test('stays up to the backup that a restore begins to read while it is being removed', async () => {
    await using stack = new AsyncDisposableStack()
    const pinning = refusing(victim, async (key) => {
      if (key === `main/backups/${SECOND.id}/backup.json`)
        stack.use(await pinBackup(victim, 'main', FIRST.id, 'restore', now))
    })
    const { removedBackups } = await applyRetention('main', { full: 1 }, context(pinning))
    expect(removedBackups).toBe(1)
    expect(await ids(victim)).toEqual([FULL.id, FIRST.id, NEXT.id])
    expect((await loadCatalog(victim, 'main')).wal[0]!.ranges[0]!.first).toBe(name(40))
  })

  test('stays up to the backup that the store does not let go', async () => {
    const holding = refusing(victim, async (key) => {
      if (key === `main/backups/${FIRST.id}/backup.json`) throw new PgrecallError('refused', 'a legal hold')
    })
    const { removedBackups, refusals } = await applyRetention('main', { full: 1 }, context(holding))
    expect([removedBackups, refusals]).toEqual([1, ['a legal hold']])
    expect(await ids(victim)).toEqual([FULL.id, FIRST.id, NEXT.id])
  })
})

test('what lies beside WAL goes with it: received beginnings, and the notes of what was given up', async () => {
  for (const number of [3, 8, 40]) {
    await storage.put(droppedKey('main', name(number)), Buffer.from('{}'))
    await storage.put(receivingKey('main', name(number)), Buffer.from('x'))
  }
  await storage.put(droppedKey('main', `${name(8)}.partial`), Buffer.from('{}'))
  const { removedWal } = await applyRetention('main', { full: 1 }, context())
  const beside = (await keysOf(storage, 'main/wal/')).filter((key) => /dropped|receiving/.test(key))
  expect(beside).toEqual([droppedKey('main', name(40)), receivingKey('main', name(40))])
  // 25 segments, a label, and five beside them.
  expect(removedWal).toBe(31)
})

test('the catalog is brought up to date by a look that believes what was listed for the plan', async () => {
  await storeWal(storage, range(6, 9), { timeline: 2 })
  const listed: string[] = []
  const { location, address } = storage
  const observed: Storage = {
    location,
    address,
    ...viewOf(storage),
    async *list(prefix, options) {
      for await (const object of storage.list(prefix, options)) {
        if (prefix.startsWith('main/wal/')) listed.push(object.key)
        yield object
      }
    },
  }
  await applyRetention('main', { full: 1 }, context(observed))
  const left = range(30, 35).length
  // All of it for the plan; what goes, and the first that stays; what stays in turn, its first and the history, for the catalog.
  const all = range(5, 35).length + 4 + 3
  expect(listed.length).toBeLessThanOrEqual(all + (all - left) + left + 4)

  const fresh = await loadCatalog(storage, 'main', { fresh: true })
  expect(await loadCatalog(storage, 'main', { believing: true })).toEqual({ ...fresh, looks: 2 })
  expect(fresh.wal).toMatchObject([
    { ranges: [{ first: name(30), segments: 6, storedBytes: 60 }] },
    { timeline: 2 },
  ])
})

/** The methods of a storage, bound to it, for a wrapper that changes one of them. */
function viewOf(of: Storage): Omit<Storage, 'location' | 'address'> {
  return {
    put: (...args) => of.put(...args),
    get: (...args) => of.get(...args),
    stat: (...args) => of.stat(...args),
    list: (...args) => of.list(...args),
    folders: (...args) => of.folders(...args),
    names: (...args) => of.names(...args),
    remove: (...args) => of.remove(...args),
    replaceStart: (...args) => of.replaceStart(...args),
    lockUntil: (...args) => of.lockUntil(...args),
    sweep: () => of.sweep(),
    freeBytes: () => of.freeBytes(),
    probe: (...args) => of.probe(...args),
  }
}

describe('logical backups', () => {
  const DUMPS = [1, 2, 3].map((day) => `2026110${day}T130000Z-logical`)
  const logical = async () =>
    (await loadCatalog(storage, 'main', { fresh: true })).logical.map(({ id }) => id)
  beforeEach(async () => {
    for (const id of DUMPS) await storeLogical(storage, logicalRecord(id))
  })

  test('go with all of their objects, and what a killed run has left of one', async () => {
    const debris = 'main/backups/20261104T130000Z-logical/postgres.dump'
    await storage.put(debris, Buffer.from('x'))
    const { removedBackups } = await applyRetention('main', { full: 3, logical: 1 }, context())
    expect(removedBackups).toBe(2)
    expect(await logical()).toEqual(DUMPS.slice(2))
    expect(await keysOf(storage, 'main/backups/20261101T130000Z-logical/')).toEqual([])
    expect(await keysOf(storage, debris)).toEqual([])
    expect(await backups()).toEqual(IDS)
  })

  test('stay without a rule of their own, and hold no WAL', async () => {
    await applyRetention('main', { full: 1 }, context())
    expect(await logical()).toEqual(DUMPS)
    expect(await backups()).toEqual(IDS.slice(2))
    expect(await walNames()).not.toContain(name(29))
  })

  test('that cannot be read hold nothing, and their objects are not taken for debris', async () => {
    await storage.put(`main/backups/${DUMPS[2]}/backup.json`, Buffer.from('nonsense'))
    const warnings: string[] = []
    await applyRetention('main', { full: 1, logical: 1 }, context(storage, warnings))
    expect(await backups()).toEqual(IDS.slice(2))
    expect(await walNames()).not.toContain(name(29))
    expect(await logical()).toEqual([DUMPS[1]])
    expect(await keysOf(storage, `main/backups/${DUMPS[2]}/`)).toHaveLength(2)
    expect(warnings).toEqual([expect.stringContaining(`backup ${DUMPS[2]} cannot be read`)])
  })

  test('a rule for them alone leaves all WAL and every other backup', async () => {
    const before = await walNames()
    await applyRetention('main', { logical: 1 }, context())
    expect(await logical()).toEqual(DUMPS.slice(2))
    expect(await backups()).toEqual(IDS)
    expect(await walNames()).toEqual(before)
  })

  test('one that is being read stays', async () => {
    await using _pin = await pinBackup(storage, 'main', DUMPS[0]!, 'copy to offsite', now)
    await applyRetention('main', { full: 3, logical: 1 }, context())
    expect(await logical()).toEqual([DUMPS[0], DUMPS[2]])
  })
})
