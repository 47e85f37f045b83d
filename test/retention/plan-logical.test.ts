import { expect, test } from 'vitest'
import type { Catalog } from '../../src/catalog/catalog.ts'
import { inOrderOfRemoval, type RetentionPlan } from '../../src/retention/plan.ts'
import { logicalSummary, SEGMENT, summary } from '../catalog/stored.ts'
import { planFor } from './plan-for.ts'

const IDS = [1, 2, 3, 4].map((day) => `2026110${day}T130000Z-logical`)
const FULL = summary('20261101T120000Z-full', { first: 10, standalone: true })

const catalogOf = (facts: Partial<Catalog> = {}): Catalog => ({
  cluster: 'main',
  systemIdentifier: '7',
  walSegmentBytes: SEGMENT,
  backups: [FULL],
  logical: IDS.map((id) => logicalSummary(id)),
  wal: [],
  damaged: [],
  ...facts,
})
const verdicts = ({ logical }: RetentionPlan) => logical.map(({ stays, reason }) => [stays, reason])

test('the newest ones stay, and the others go last', () => {
  const catalog = catalogOf()
  const plan = planFor(catalog, { full: 1, logical: 2 }, [])
  expect(verdicts(plan)).toEqual([
    [false, 'beyond the newest 2'],
    [false, 'beyond the newest 2'],
    [true, 'one of the newest 2'],
    [true, 'one of the newest 2'],
  ])
  expect(inOrderOfRemoval(catalog, plan).map(({ id }) => id)).toEqual(IDS.slice(0, 2))
})

test('what is of a part only does not count, and stays until so many whole ones are newer', () => {
  const parts: Parameters<typeof logicalSummary>[1][] = [
    { choice: { databases: ['shop'] } },
    { selection: { tables: ['orders'] } },
    { hasGlobals: false },
  ]
  const days = parts.map((facts, day) => logicalSummary(`2026110${day + 2}T140000Z-logical`, facts))
  const logical = [...IDS.map((id) => logicalSummary(id)), ...days].toSorted((a, b) => (a.id < b.id ? -1 : 1))
  expect(verdicts(planFor(catalogOf({ logical }), { full: 1, logical: 2 }, []))).toEqual([
    [false, 'beyond the newest 2'],
    [false, 'beyond the newest 2'],
    [false, 'beyond the newest 2'],
    [true, 'one of the newest 2'],
    [true, 'a part of the cluster, so not counted'],
    [true, 'one of the newest 2'],
    [true, 'a part of the cluster, so not counted'],
  ])
})

test('without a rule all stay', () => {
  const plan = planFor(catalogOf(), { full: 1 }, [])
  expect(new Set(verdicts(plan).map(String))).toEqual(new Set(['true,no rule for logical backups']))
})

test('a rule for them alone lets nothing else go, and no WAL', () => {
  const backups = [1, 2].map((day) =>
    summary(`2026110${day}T120000Z-full`, { first: 10 * day, standalone: true }),
  )
  const plan = planFor(catalogOf({ backups }), { logical: 1 }, [])
  expect(plan.backups.map(({ stays, reason }) => [stays, reason])).toEqual([
    [true, 'no rule for full backups'],
    [true, 'no rule for full backups'],
  ])
  expect(plan.walBefore).toBeUndefined()
  expect(verdicts(plan).map(([stays]) => stays)).toEqual([false, false, false, true])
})

test('one that is in use stays, and one that the store keeps', () => {
  const pins = [{ backup: IDS[0]!, purpose: 'copy to offsite' }]
  const locks = new Map([[IDS[1]!, new Date('2026-12-01T00:00:00.000Z')]])
  expect(verdicts(planFor(catalogOf(), { full: 1, logical: 1 }, pins, locks))).toEqual([
    [true, 'in use: copy to offsite'],
    [true, 'locked until 2026-12-01T00:00:00Z'],
    [false, 'beyond the newest 1'],
    [true, 'one of the newest 1'],
  ])
})

test('one that cannot be read holds neither WAL nor physical backups', () => {
  const damaged = [{ id: '20261105T130000Z-logical', reason: 'it is cut off' }]
  const plan = planFor(catalogOf({ damaged }), { full: 1, logical: 4 }, [])
  expect(plan.walBefore).toBe(10n)
  expect(plan.warnings).toEqual([`backup ${damaged[0]!.id} cannot be read (it is cut off); it stays`])
})

test.each([0, -1, Number.NaN])('a rule that keeps %d of them is refused', (logical) => {
  expect(() => planFor(catalogOf(), { full: 1, logical }, [])).toThrow(RangeError)
})
