import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { loadCatalog } from '../../src/catalog/catalog.ts'
import { newHolder } from '../../src/catalog/holder.ts'
import { claimIdentity, markRepository } from '../../src/catalog/identity.ts'
import { type KeptPin, keepBackup, readKeptPins, releaseBackup } from '../../src/catalog/kept-pin.ts'
import { keptPrefix, pinsPrefix } from '../../src/catalog/layout.ts'
import { acquireLock } from '../../src/catalog/lock.ts'
import type { CommandContext, Run } from '../../src/commands/context.ts'
import { run as runList } from '../../src/commands/list.ts'
import { run as runPin } from '../../src/commands/pin.ts'
import { run as runUnpin } from '../../src/commands/unpin.ts'
import { Events } from '../../src/events.ts'
import { segmentName } from '../../src/postgres/wal-file.ts'
import { applyRetention } from '../../src/retention/apply.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import type { Storage } from '../../src/storage/storage.ts'
import {
  increment,
  keysOf,
  logicalRecord,
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

const OLD = record('20261101T120000Z-full', { first: 10 })
const INCR = recordOf(increment('20261102T120000Z-incr', OLD, { first: 12 }))
const NEW = record('20261103T120000Z-full', { first: 20 })
const DUMP = '20261101T130000Z-logical'
const NEWER_DUMP = '20261104T130000Z-logical'
const REASON = 'books of 2026'
const HOUR = 60 * 60_000

let scratch: Scratch
let local: LocalStorage
let offsite: LocalStorage
let warnings: string[]
let count = 0
beforeAll(async () => {
  scratch = await Scratch.create('pins')
})
afterAll(() => scratch[Symbol.asyncDispose]())
beforeEach(async () => {
  warnings = []
  count++
  local = await filled('local')
})

async function filled(name: string): Promise<LocalStorage> {
  const storage = new LocalStorage(join(scratch.path, `${name}-${count}`))
  await markRepository(storage)
  await claimIdentity(storage, 'main', { systemIdentifier: '7400000000000000001', walSegmentBytes: SEGMENT })
  for (const backup of [OLD, INCR, NEW]) await storeBackup(storage, backup)
  for (const id of [DUMP, NEWER_DUMP]) await storeLogical(storage, logicalRecord(id))
  await storeWal(storage, range(9, 21))
  return storage
}

const now = () => new Date()
const later = (ms: number) => new Date(Date.now() + ms)
const events = () => new Events().on('warning', ({ text }) => warnings.push(text))
const ids = async (storage: Storage) => {
  const { backups, logical } = await loadCatalog(storage, 'main', { fresh: true })
  return [...backups, ...logical].map(({ id }) => id)
}
const retain = (storage: Storage, at = now) =>
  applyRetention(
    'main',
    { full: 1, logical: 1 },
    {
      repository: plainRepository('local', storage),
      events: events(),
      signal: new AbortController().signal,
      now: at,
    },
  )
const pin = (backup: string, facts: Partial<KeptPin> = {}, storage: Storage = local) =>
  keepBackup(storage, 'main', { backup, reason: REASON, ...facts })

describe('a pinned backup', () => {
  test('stays with its chain and its WAL, and goes when it is let go', async () => {
    await pin(INCR.id)
    await pin(DUMP, { until: later(HOUR) })
    const { plan } = await retain(local)
    expect(await ids(local)).toEqual([OLD.id, INCR.id, NEW.id, DUMP, NEWER_DUMP])
    expect(plan.backups.map(({ reason }) => reason).slice(0, 2)).toEqual([
      `needed by ${INCR.id}`,
      `pinned: ${REASON}`,
    ])
    expect((await loadCatalog(local, 'main')).wal[0]!.ranges[0]!.first).toBe(segmentName(1, 10n, SEGMENT))
    expect(await releaseBackup(local, 'main', INCR.id)).toEqual([{ backup: INCR.id, reason: REASON }])
    await retain(local)
    expect(await ids(local)).toEqual([NEW.id, DUMP, NEWER_DUMP])
  })

  test('goes once its time is over, and the pin with it', async () => {
    await pin(OLD.id, { until: later(HOUR) })
    await retain(local)
    expect(await ids(local)).toContain(OLD.id)
    await retain(local, () => later(2 * HOUR))
    expect(await ids(local)).not.toContain(OLD.id)
    expect(await keysOf(local, keptPrefix('main'))).toEqual([])
  })

  test('stays where its time is over by a clock that is not that of the store, and so does the pin', async () => {
    await pin(OLD.id, { until: later(HOUR) })
    await pin(NEW.id, { until: later(-HOUR) })
    const reader = { ...(await newHolder('restore', now())), host: 'elsewhere', backup: DUMP }
    await local.put(`${pinsPrefix('main')}${reader.id}.json`, Buffer.from(JSON.stringify(reader)))
    await retain(local, () => later(25 * HOUR))
    expect(await ids(local)).toEqual([OLD.id, NEW.id, DUMP, NEWER_DUMP])
    expect(await readKeptPins(local, 'main')).toHaveLength(2)
    expect(warnings).toEqual([expect.stringContaining('until they agree no pin ends')])
  })

  test('has the last of its pins', async () => {
    await pin(OLD.id)
    const until = later(HOUR)
    await pin(OLD.id, { until, reason: 'other' })
    expect(await readKeptPins(local, 'main')).toEqual([{ backup: OLD.id, until, reason: 'other' }])
  })

  test.each([
    ['is cut off', '{"format": 1'],
    ['is of a later version', '{"format":2,"backup":"20261101T120000Z-full","until":"2026-01-01T00:00:00Z"}'],
    ['is of another backup', '{"format":1,"backup":"x","until":"2026-01-01T00:00:00Z","reason":"x"}'],
    ['is empty', ''],
  ])('stays where its pin %s', async (_what, content) => {
    await local.put(`${keptPrefix('main')}${OLD.id}.x.json`, Buffer.from(content))
    await retain(local)
    expect(await ids(local)).toContain(OLD.id)
    expect(await keysOf(local, keptPrefix('main'))).toHaveLength(1)
  })

  test('stays though it was pinned while what goes was being removed', async () => {
    const pinning: Storage = new Proxy<Storage>(local, {
      get(target, method: keyof Storage) {
        const value: unknown = target[method]
        if (method !== 'remove') return typeof value === 'function' ? value.bind(target) : value
        return async (key: string) => {
          if (key.endsWith(`${INCR.id}/backup.json`)) await pin(OLD.id)
          await target.remove(key)
        }
      },
    })
    await retain(pinning)
    expect(await ids(local)).toEqual([OLD.id, NEW.id, NEWER_DUMP])
    expect((await loadCatalog(local, 'main')).wal[0]!.ranges[0]!.first).toBe(segmentName(1, 10n, SEGMENT))
  })

  test('that is removed at the moment of the pin is told as absent', async () => {
    const removing: Storage = new Proxy<Storage>(local, {
      get(target, method: keyof Storage) {
        const value: unknown = target[method]
        if (method !== 'put') return typeof value === 'function' ? value.bind(target) : value
        return async (key: string, source: Buffer) => {
          await target.remove(`main/backups/${OLD.id}/backup.json`)
          return target.put(key, source)
        }
      },
    })
    expect(await pin(OLD.id, {}, removing)).toBe('absent')
    expect(await keysOf(local, keptPrefix('main'))).toEqual([])
  })
})

describe('the commands', () => {
  beforeEach(async () => {
    offsite = await filled('offsite')
  })

  const call = (run: Run, args: string[], options = {}) =>
    run({ args, options: { reason: REASON, ...options } }, {
      cluster: () => ({ name: 'main', config: { retention: {}, timeZone: 'America/New_York' } }),
      clusters: () => ['main'],
      repositories: () => [plainRepository('local', local), plainRepository('offsite', offsite)],
      repositoriesOf: () => [plainRepository('local', local)],
      events: events(),
      signal: new AbortController().signal,
      now: () => new Date('2026-11-20T12:00:00Z'),
      view: { color: false, width: undefined },
    } as unknown as CommandContext)

  test('pin in each repository that has the backup, to the end of a day where the cluster is', async () => {
    const { text, json } = await call(runPin, [OLD.id], { until: '2026-12-31' })
    const until = '2027-01-01T05:00:00.000Z'
    expect(json).toEqual(
      ['local', 'offsite'].map((repository) => ({
        repository,
        isPinned: true,
        backup: OLD.id,
        until,
        reason: REASON,
      })),
    )
    expect(text).toContain(`backup ${OLD.id} is pinned until 2027-01-01T05:00:00Z: ${REASON}`)
    expect(await readKeptPins(offsite, 'main')).toEqual([
      { backup: OLD.id, until: new Date(until), reason: REASON },
    ])
    const listed = await call(runList, [])
    expect(listed.text).toContain(`Pinned: ${OLD.id} until 2027-01-01T05:00:00Z: ${REASON}`)
    expect(listed.json).toMatchObject([{ pins: [{ backup: OLD.id, until, reason: REASON }] }])
    const again = await call(runUnpin, [OLD.id])
    expect(again.json).toMatchObject([{ released: [{ reason: REASON }] }, { released: [{ until }] }])
    expect((await call(runUnpin, [OLD.id])).text).toContain('was not pinned')
  })

  test('take "latest", a moment, and no end', async () => {
    await offsite.remove(`main/backups/${NEWER_DUMP}/backup.json`)
    const { text } = await call(runPin, ['latest'], { until: '2026-11-20 12:00:01Z' })
    expect(text).toMatch(new RegExp(`"local": .*${NEWER_DUMP} is pinned until 2026-11-20T12:00:01Z`))
    expect(text).toContain(`"offsite": there is no backup ${NEWER_DUMP}`)
    expect((await call(runPin, [NEW.id])).text).toContain('is pinned for good')
  })

  test.each([
    ['a day that is over', [OLD.id], { until: '2026-11-18' }, 'usage', 'is over already'],
    ['a moment that is over', [OLD.id], { until: '2026-11-20 12:00:00Z' }, 'usage', 'is over already'],
    ['what is no day', [OLD.id], { until: '2027-02-30' }, 'usage', 'not a point in time'],
    ['no reason', [OLD.id], { reason: ' \n' }, 'usage', '--reason'],
    ['an id that is not there', ['20261101T120001Z-full'], {}, 'absent', 'there is no backup'],
    ['what is no id', ['../../etc'], {}, 'absent', 'there is no backup'],
  ])('refuse %s', async (_what, args, options, kind, message) => {
    await expect(call(runPin, args, options)).rejects.toMatchObject({
      kind,
      message: expect.stringContaining(message),
    })
    expect(await keysOf(local, keptPrefix('main'))).toEqual([])
  })

  test('name the ids that are most like one that is not there', async () => {
    for (const run of [runPin, runUnpin])
      await expect(call(run, ['20261103T120001Z-full'])).rejects.toMatchObject({
        hint: expect.stringMatching(new RegExp(`^did you mean ${NEW.id}, `)),
      })
  })

  test('say when a retention may have begun to remove the backup', async () => {
    await using _lock = await acquireLock(local, 'main', { purpose: 'retention', now })
    await call(runPin, [OLD.id])
    expect(warnings).toEqual([expect.stringContaining('retention is removing backups in "local" just now')])
  })
})
