import { expect, test } from 'vitest'
import type { BackupSummary } from '../../src/catalog/backup-record.ts'
import { KnownDamage } from '../../src/catalog/known-damage.ts'
import { parseHistory } from '../../src/postgres/timeline-history.ts'
import { backupsBefore, chooseBackup } from '../../src/restore/plan.ts'
import type { RestoreQuestion } from '../../src/restore/question.ts'
import { chooseSound } from '../../src/restore/sound-backup.ts'
import { parseMoment, type Target } from '../../src/restore/target.ts'
import { increment, summary } from '../catalog/stored.ts'
import { catalogOf } from '../retention/plan-for.ts'

const FIRST = summary('20261116T120000Z-full', { first: 10 })
const SECOND = summary('20261117T120000Z-full', { first: 20 })
const UPON = increment('20261118T120000Z-incr', SECOND, { first: 30 })
const ALL = [FIRST, SECOND, UPON]
const WHOLE = [{ first: 10, last: 40 }]
const ONE = parseHistory('', 1)
const SHARD = 'base.0001.tar.zst'
const INDEX = 'base.0001.index.jsonl.zst'

function choose(
  damaged: [BackupSummary, string][],
  { backup = undefined as string | undefined, target = { kind: 'end' } as Target, runs = WHOLE } = {},
) {
  const catalog = catalogOf(ALL, runs)
  const known = new KnownDamage(catalog, {
    damaged: damaged.map(([{ id }, name]) => ({
      key: `main/backups/${id}/${name}`,
      reason: 'it is missing',
      foundAt: '',
    })),
  })
  const question = { backup, target } as RestoreQuestion
  const wanted = chooseBackup(question, ALL, ONE)
  const fitting = backupsBefore(question, ALL, ONE)
  const choice = chooseSound(question, wanted, fitting, ONE, catalog, (each) => known.of(each))
  return {
    backup: choice.backup.id,
    damaged: choice.damage?.key,
    passedOver: choice.passedOver.map(({ id }) => id),
    instead: choice.instead,
  }
}

test('nothing is passed over where nothing is damaged; those of another chain could serve instead', () => {
  const sound = { backup: UPON.id, damaged: undefined, passedOver: [], instead: [FIRST.id] }
  expect(choose([])).toEqual(sound)
  expect(choose([[UPON, 'RESTORE.txt']])).toEqual(sound)
})

test('the newest that is not damaged is taken, and the newer ones are passed over', () => {
  expect(choose([[UPON, SHARD]])).toMatchObject({ backup: SECOND.id, passedOver: [UPON.id] })
  expect(choose([[SECOND, INDEX]])).toMatchObject({ backup: SECOND.id, passedOver: [UPON.id] })
  expect(choose([[SECOND, SHARD]])).toEqual({
    backup: FIRST.id,
    damaged: undefined,
    passedOver: [SECOND.id, UPON.id],
    instead: [],
  })
})

test('a damaged one is taken where it was asked for, and those are named that could serve instead', () => {
  expect(choose([[UPON, SHARD]], { backup: UPON.id })).toEqual({
    backup: UPON.id,
    damaged: `main/backups/${UPON.id}/${SHARD}`,
    passedOver: [],
    instead: [SECOND.id, FIRST.id],
  })
})

test('a damaged one is taken where no other leads to the target', () => {
  const damaged = `main/backups/${SECOND.id}/${SHARD}`
  const holed = [
    { first: 10, last: 14 },
    { first: 16, last: 40 },
  ]
  const only = { backup: UPON.id, damaged, passedOver: [], instead: [] }
  expect(choose([[SECOND, SHARD]], { runs: holed })).toEqual(only)
  expect(
    choose([
      [SECOND, SHARD],
      [FIRST, SHARD],
    ]),
  ).toEqual(only)
  // One ends at its own end, whatever comes behind.
  expect(choose([[SECOND, SHARD]], { runs: holed, target: { kind: 'immediate' } }).backup).toBe(FIRST.id)
  // What ends behind the target serves nobody.
  const target: Target = { kind: 'time', micros: parseMoment('2026-11-17 20:00Z') }
  expect(choose([[SECOND, SHARD]], { backup: SECOND.id, target }).instead).toEqual([FIRST.id])
})
