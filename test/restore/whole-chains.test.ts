import { expect, test } from 'vitest'
import { requireWhole, wholeChains } from '../../src/restore/whole-chains.ts'
import { summary } from '../catalog/stored.ts'

const FULL = summary('20261116T120000Z-full', { first: 10 })
const on = (id: string, parent: typeof FULL, first: number) =>
  summary(id, {
    first,
    type: 'incr',
    parent: { id: parent.id, startLsn: parent.start.lsn, timeline: parent.timeline },
  })
const ONE = on('20261117T120000Z-incr', FULL, 20)
const TWO = on('20261118T120000Z-incr', ONE, 30)
const LATER = summary('20261119T120000Z-full', { first: 40 })
const ids = (backups: { id: string }[]) => backups.map(({ id }) => id)

test('backups of which every link is there can be restored', () => {
  const chains = wholeChains([FULL, ONE, TWO, LATER])
  expect(ids(chains.whole)).toEqual(ids([FULL, ONE, TWO, LATER]))
  expect(chains.broken).toEqual([])
})

test.each([
  ['the full one', [ONE, TWO, LATER], FULL.id, [LATER], [ONE.id, TWO.id]],
  ['one between', [FULL, TWO, LATER], ONE.id, [FULL, LATER], [TWO.id]],
] as const)('without %s, those above it cannot, and it is named', (_what, there, missing, whole, broken) => {
  const chains = wholeChains(there)
  expect(ids(chains.whole)).toEqual(ids([...whole]))
  expect(chains.broken).toEqual(broken.map((id) => ({ id, missing })))
  requireWhole(chains, undefined)
  requireWhole(chains, LATER.id)
  expect(() => requireWhole(chains, TWO.id)).toThrow(
    expect.objectContaining({ kind: 'damaged', message: expect.stringContaining(missing) }),
  )
})

test('another backup under the name of the link is not the link', () => {
  const other = { ...FULL, start: LATER.start }
  expect(wholeChains([other, ONE]).broken).toEqual([{ id: ONE.id, missing: FULL.id }])
})

test('where there are only broken ones, none can be had', () => {
  expect(() => requireWhole(wholeChains([ONE]), undefined)).toThrow(
    expect.objectContaining({ kind: 'damaged', message: expect.stringContaining(FULL.id) }),
  )
})
