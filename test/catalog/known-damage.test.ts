import { expect, test } from 'vitest'
import { KnownDamage, readKnownDamage } from '../../src/catalog/known-damage.ts'
import { verificationsKey } from '../../src/catalog/layout.ts'
import { nothingVerified, updateVerifications } from '../../src/catalog/verification-file.ts'
import { CountingStorage } from './counting-storage.ts'
import { increment, logicalSummary, summary } from './stored.ts'

const FULL = summary('20261116T120000Z-full', { first: 10 })
const ONE = increment('20261117T120000Z-incr', FULL, { first: 20 })
const TWO = increment('20261118T120000Z-incr', ONE, { first: 30 })
const OTHER = summary('20261119T120000Z-full', { first: 40 })
const DUMPS = logicalSummary('20261120T120000Z-logical')
/** In no order: a catalog may have a link behind what builds upon it, where a clock went back. */
const CATALOG = { cluster: 'main', backups: [TWO, ONE, FULL, OTHER], logical: [DUMPS] }

const fault = (key: string) => ({ key, reason: 'it is missing', foundAt: '2026-11-20T12:00:00Z' })
const damagedBy = (...names: string[]) => {
  const damaged = names.map((name) => fault(`main/backups/${name}`))
  const known = new KnownDamage(CATALOG, { damaged })
  const ids = (question: 'of' | 'above') =>
    [FULL, ONE, TWO, OTHER, DUMPS].filter((backup) => known[question](backup)).map(({ id }) => id)
  return { known, of: ids('of'), above: ids('above') }
}

test.each<[string, string, string[], string[]]>([
  ['a shard', `${FULL.id}/base.0001.tar.zst`, [FULL.id, ONE.id, TWO.id], [FULL.id, ONE.id, TWO.id]],
  ['a manifest', `${ONE.id}/backup_manifest.zst.age`, [ONE.id, TWO.id], [ONE.id, TWO.id]],
  ['a record', `${TWO.id}/backup.json`, [TWO.id], [TWO.id]],
  ['an index', `${ONE.id}/base.0001.index.jsonl.zst.age`, [ONE.id, TWO.id], [ONE.id, TWO.id]],
  [
    'an index of a full one',
    `${FULL.id}/16384.0001.index.jsonl`,
    [ONE.id, TWO.id],
    [FULL.id, ONE.id, TWO.id],
  ],
  ['instructions', `${FULL.id}/RESTORE.txt`, [], []],
  ['a dump', `${DUMPS.id}/contents.jsonl.dump`, [DUMPS.id], []],
  ['roles', `${DUMPS.id}/globals.sql.zst`, [DUMPS.id], []],
  ['a list of what dumps hold', `${DUMPS.id}/contents.jsonl.zst.age`, [], []],
  ['a backup that is gone', '20260101T000000Z-full/base.0001.tar.zst', [], []],
])('%s spoils what needs it', (_what, object, of, above) => {
  expect(damagedBy(object)).toMatchObject({ of, above })
})

test('what builds upon a damaged one is told what is damaged below', () => {
  const { known } = damagedBy(`${TWO.id}/base.0001.tar.zst`, `${FULL.id}/base.0002.tar.zst`)
  expect(known.of(TWO)).toEqual({
    key: `main/backups/${FULL.id}/base.0002.tar.zst`,
    reason: 'it is missing',
  })
})

test('WAL, and what is of another cluster, says nothing of backups', () => {
  const damaged = [fault(`main/wal/00000001/x.zst`), fault(`main2/backups/${FULL.id}/base.0001.tar.zst`)]
  expect(new KnownDamage(CATALOG, { damaged }).of(FULL)).toBeUndefined()
})

test('it is read from the repository; a file that is not there, or that cannot be believed, says nothing', async () => {
  const storage = new CountingStorage()
  expect((await readKnownDamage(storage, CATALOG)).of(FULL)).toBeUndefined()
  const found = fault(`main/backups/${FULL.id}/base.0001.tar.zst`)
  await updateVerifications(storage, 'main', () => ({
    ...nothingVerified('main', '2026-11-20T12:00:00Z'),
    damaged: [found],
  }))
  expect((await readKnownDamage(storage, CATALOG)).of(TWO)).toMatchObject({ key: found.key })
  await storage.put(verificationsKey('main'), Buffer.from('{"format": 1, "damaged"'))
  expect((await readKnownDamage(storage, CATALOG)).of(TWO)).toBeUndefined()
})
