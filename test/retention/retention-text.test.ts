import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { claimIdentity } from '../../src/catalog/identity.ts'
import { walKey } from '../../src/catalog/layout.ts'
import type { CommandContext } from '../../src/commands/context.ts'
import { run } from '../../src/commands/retention.ts'
import { planText } from '../../src/commands/retention-text.ts'
import { PgrecallError } from '../../src/errors.ts'
import { Events } from '../../src/events.ts'
import { segmentName } from '../../src/postgres/wal-file.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import type { Storage } from '../../src/storage/storage.ts'
import {
  logicalRecord,
  range,
  record,
  SEGMENT,
  storeBackup,
  storeLogical,
  storeWal,
  summary,
} from '../catalog/stored.ts'
import { Scratch } from '../lab/scratch.ts'
import { catalogOf, planFor } from './plan-for.ts'

const IDS = [1, 2, 3].map((day) => `2026110${day}T120000Z-full`)
const name = (number: number) => segmentName(1, BigInt(number), SEGMENT)

let scratch: Scratch
let storage: LocalStorage
let count = 0
beforeAll(async () => {
  scratch = await Scratch.create('retention-text')
})
beforeEach(async () => {
  storage = new LocalStorage(join(scratch.path, `repository-${++count}`))
  await claimIdentity(storage, 'main', { systemIdentifier: '7400000000000000001', walSegmentBytes: SEGMENT })
  for (const [index, id] of IDS.entries()) await storeBackup(storage, record(id, { first: index + 10 }))
  await storeWal(storage, range(10, 13))
  await storage.put(walKey('main', `${name(10)}.00000028.backup`), Buffer.from('x'))
})
afterAll(() => scratch[Symbol.asyncDispose]())

const linesOf = (full: number, over: Storage = storage) => linesFor({ full }, over)

/** @param options as those of the command line @param rules as those of the configuration */
async function linesFor(options: object, over: Storage = storage, rules = {}): Promise<string[]> {
  const context = {
    cluster: () => ({ name: 'main', config: { retention: rules } }),
    repositories: () => [{ name: 'local', storage: over }],
    events: new Events(),
    signal: new AbortController().signal,
    now: () => new Date(),
    view: { color: false, width: 80 },
  }
  const { text } = await run({ args: [], options: { ...options } }, context as unknown as CommandContext)
  return text.split('\n')
}

test('the summary says from where on WAL stays that the store keeps locked', async () => {
  const lockedUntil = new Date('2099-01-02T03:04:05.678Z')
  const isLocked = (key: string) => key === walKey('main', name(10))
  const locking: Storage = new Proxy<Storage>(storage, {
    get(target, method: keyof Storage) {
      if (method === 'remove')
        return async (key: string) => {
          if (isLocked(key)) throw new PgrecallError('refused', `cannot remove ${key}`)
          await target.remove(key)
        }
      if (method === 'stat')
        return async (key: string) => {
          const facts = await target.stat(key)
          return facts && { ...facts, ...(isLocked(key) && { lockedUntil }) }
        }
      const value: unknown = target[method]
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
  expect((await linesOf(2, locking)).at(-1)).toBe(
    `WAL of timeline 1 stays from ${name(10)} on, which the store keeps locked until 2099-01-02T03:04:05Z.`,
  )
})

test('the summary says what went, one by one, and why that is more than the segments of the plan', async () => {
  const first = await linesOf(2)
  expect(first).toContain(`WAL of timeline 1, ${name(10)} to ${name(10)} (1 segment, about 10 B) goes.`)
  expect(first.at(-1)).toMatch(/^Removed 1 backup, 1 WAL segment and 1 file beside it: .*B\.$/)
  expect(first.slice(2, 5).map((line) => line.trimEnd())).toEqual([
    `${IDS[0]}   100 B  goes     beyond the newest 2`,
    `${IDS[1]}   100 B  stays    full: one of the newest 2`,
    `${IDS[2]}   100 B  stays    full: one of the newest 2`,
  ])
  expect((await linesOf(2)).at(-1)).toBe('Removed 0 backups and 0 WAL segments: 0 B.')
})

test('logical backups stand below the others, with a rule of the command line or of the configuration', async () => {
  const [old, kept] = [1, 2].map((day) => `2026110${day}T130000Z-logical`)
  for (const id of [old!, kept!]) await storeLogical(storage, logicalRecord(id))
  const shown = await linesFor({ logical: 1, dryRun: true })
  expect(shown.filter((line) => line.includes('-logical')).map((line) => line.split(/ {2,}/))).toEqual([
    [old, '100 B', 'goes', 'beyond the newest 1'],
    [kept, '100 B', 'stays', 'logical: one of the newest 1'],
  ])
  expect(shown).toContain('No WAL goes.')
  const done = await linesFor({}, storage, { logical: 1 })
  expect(done.at(-1)).toMatch(/^Removed 1 backup and 0 WAL segments: /)
  await expect(linesFor({})).rejects.toMatchObject({ kind: 'config' })
})

test('the dry run tells to where one can go back before and after, and how much goes', () => {
  const backups = [1, 2, 3, 4].map((day) => summary(`2026110${day}T120000Z-full`, { first: 10 * day }))
  const catalog = catalogOf(backups, [{ first: 5, last: 45 }])
  const plan = planFor(catalog, { full: 3, wal: 24 * 60 * 60_000 })
  const shown = planText(plan, { view: { color: false, width: 80 } }, true).split('\n')
  expect(shown.slice(shown.findIndex((line) => line.startsWith('WAL')))).toEqual([
    `WAL of timeline 1, ${name(5)} to ${name(39)} (3 stretches, 33 segments, about 330 B) would go.`,
    '',
    'Timeline  Recovery  From                  To                    Which moments',
    '       1  before    2026-11-01T12:00:30Z  2026-11-20T12:00:00Z  any moment',
    '       1  after     2026-11-02T12:00:30Z  2026-11-03T12:00:30Z  the ends of 2 backups',
    '       1  after     2026-11-04T12:00:30Z  2026-11-20T12:00:00Z  any moment',
    '',
    'Would remove 1 backup (100 B) and 33 WAL segments (about 330 B): about 430 B.',
  ])
  const kept = planText(planFor(catalog, { full: 9 }), { view: { color: false, width: 80 } }, false)
  expect(kept).toContain('       1  unchanged  2026-11-01T12:00:30Z  2026-11-20T12:00:00Z  any moment')
  expect(kept).not.toContain('Would')
})

test('where whole runs go, the bytes are exact', () => {
  const backups = [1, 2].map((day) => summary(`2026110${day}T120000Z-full`, { first: 10 * day }))
  const catalog = catalogOf(backups, [
    { first: 10, last: 12 },
    { first: 20, last: 25 },
  ])
  const text = planText(planFor(catalog, { full: 1 }), { view: { color: false, width: 80 } }, true)
  expect(text).toContain('Would remove 1 backup (100 B) and 3 WAL segments (30 B): 130 B.')
})

test('windows stand in the order of time, also where ends of backups lie between them', () => {
  const backups = [
    summary('20261101T120000Z-full', { first: 10 }),
    summary('20261103T120000Z-full', { first: 30 }),
  ]
  const runs = [
    { first: 10, last: 15, storedAt: '2026-11-01T14:00:00.000Z' },
    { first: 30, last: 30, storedAt: '2026-11-03T12:00:20.000Z' },
  ]
  const plan = planFor(catalogOf(backups, runs), { full: 9 })
  const rows = planText(plan, { view: { color: false, width: 80 } }, true).split('\n')
  expect(rows.filter((row) => row.includes(' unchanged '))).toEqual([
    '       1  unchanged  2026-11-01T12:00:30Z  2026-11-01T14:00:00Z  any moment',
    '       1  unchanged  2026-11-03T12:00:30Z  2026-11-03T12:00:30Z  the end of a backup',
  ])
})
