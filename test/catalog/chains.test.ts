import { describe, expect, test } from 'vitest'
import type { BackupSummary } from '../../src/catalog/backup-record.ts'
import { chainOf } from '../../src/catalog/chain.ts'
import { Chains } from '../../src/catalog/chains.ts'
import { randomHistory } from './random-history.ts'
import { increment, summary } from './stored.ts'

const FULL = summary('20261101T120000Z-full', { first: 10 })
const FIRST = increment('20261102T120000Z-incr', FULL, { first: 20 })
const SECOND = increment('20261103T120000Z-incr', FIRST, { first: 30 })
const DIFF = increment('20261104T120000Z-diff', FULL, { first: 40 })
const ALL = [FULL, FIRST, SECOND, DIFF]

const idsOf = (backups: readonly BackupSummary[]) => backups.map(({ id }) => id)

test('a backup builds upon all below it, the nearest first', () => {
  const chains = new Chains(ALL)
  expect(idsOf(chains.ancestorsOf(SECOND))).toEqual([FIRST.id, FULL.id])
  expect(idsOf(chains.ancestorsOf(DIFF))).toEqual([FULL.id])
  expect(chains.ancestorsOf(FULL)).toEqual([])
  expect(ALL.map((backup) => chains.missingOf(backup))).toEqual(ALL.map(() => undefined))
})

describe('a chain is broken, for all above,', () => {
  test.each([
    ['where a link is missing', [FULL, SECOND]],
    ['where a link begins elsewhere', [FULL, { ...FIRST, start: FULL.start }, SECOND]],
    ['where a link is on another timeline', [FULL, { ...FIRST, timeline: 2 }, SECOND]],
    ['where a link is of another cluster', [FULL, { ...FIRST, systemIdentifier: '8' }, SECOND]],
  ])('%s', (_how, backups) => {
    const third = increment('20261105T120000Z-incr', SECOND, { first: 50 })
    const chains = new Chains([...backups, third])
    expect(chains.missingOf(third)).toBe(FIRST.id)
    expect(chains.missingOf(SECOND)).toBe(FIRST.id)
    expect(chains.missingOf(FULL)).toBeUndefined()
    expect(idsOf(chains.ancestorsOf(third))).toEqual([SECOND.id])
  })

  test('and a circle is one', () => {
    const first = { ...FIRST, parent: { id: SECOND.id, startLsn: SECOND.start.lsn, timeline: 1 } }
    const chains = new Chains([first, SECOND])
    expect(chains.missingOf(SECOND)).toBeDefined()
    expect(chains.missingOf(first)).toBeDefined()
    expect(chains.ancestorsOf(SECOND).length).toBeLessThanOrEqual(2)
  })
})

test('all together are what each is alone', () => {
  for (let seed = 1; seed <= 300; seed++) {
    const { backups } = randomHistory(seed)
    const chains = new Chains(backups)
    for (const backup of backups.toReversed()) {
      const { links, missing } = chainOf(backups, backup)
      expect(chains.missingOf(backup), `seed ${seed}`).toBe(missing)
      expect([...chains.ancestorsOf(backup).toReversed(), backup], `seed ${seed}`).toEqual(links)
    }
  }
})
