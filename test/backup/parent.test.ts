import { describe, expect, test } from 'vitest'
import { chooseParent } from '../../src/backup/parent.ts'
import type { ServerPlace } from '../../src/backup/server-place.ts'
import type { BackupSummary } from '../../src/catalog/backup-record.ts'
import { KnownDamage } from '../../src/catalog/known-damage.ts'
import { lsn } from '../../src/postgres/lsn.ts'
import type { ClusterFacts } from '../../src/postgres/server.ts'
import { summary } from '../catalog/stored.ts'

const FACTS = {
  majorVersion: 17,
  systemIdentifier: '7400000000000000001',
  blockBytes: 8192,
  dataChecksums: true,
} as ClusterFacts

/** The server writes to segment 50 of timeline 1. */
const PLACE: ServerPlace = {
  timeline: 1,
  lsn: lsn('0/32000000'),
  history: [{ timeline: 1, begin: 0n, end: undefined }],
}

const full = (day: string, first: number, facts: Partial<BackupSummary> = {}) =>
  summary(`202611${day}T000000Z-full`, { first, ...facts })

function upon(parent: BackupSummary, day: string, first: number, facts: Partial<BackupSummary> = {}) {
  const { id, start, timeline } = parent
  return summary(`202611${day}T000000Z-incr`, {
    type: 'incr',
    parent: { id, startLsn: start.lsn, timeline },
    first,
    ...facts,
  })
}

function choose(
  backups: BackupSummary[] | BackupSummary[][],
  { type = 'incr' as 'auto' | 'incr' | 'diff', maxChain = 15, facts = FACTS, place = PLACE } = {},
  damaged: string[] = [],
): string {
  const held = Array.isArray(backups[0]) ? (backups as BackupSummary[][]) : [backups as BackupSummary[]]
  const choice = chooseParent(held, { type, maxChain }, facts, place, damageIn(held[0]!, damaged))
  return 'parent' in choice ? choice.parent.id : choice.reason
}

/** What is above damaged objects, which are named by backup and object. */
function damageIn(backups: BackupSummary[], names: string[]) {
  const damaged = names.map((name) => ({ key: `main/backups/${name}`, reason: 'it is missing', foundAt: '' }))
  const known = new KnownDamage({ cluster: 'main', backups, logical: [] }, { damaged })
  return (backup: BackupSummary) => known.above(backup)
}

const first = full('01', 10)
const second = upon(first, '02', 20)
const third = upon(second, '03', 30)

describe('the backup that a new one builds upon', () => {
  test('is the newest, for a differential one the newest full one', () => {
    expect(choose([first, second, third])).toBe(third.id)
    expect(choose([first, second, third], { type: 'auto' })).toBe(third.id)
    expect(choose([first, second, third], { type: 'diff' })).toBe(first.id)
    expect(choose([])).toBe('there is no backup yet')
    expect(choose([second], { type: 'diff' })).toBe('there is no full backup yet')
  })

  test('has all that it builds upon', () => {
    expect(choose([second, third])).toBe(
      `${third.id} is no parent: it builds upon ${first.id}, which is missing`,
    )
    // Another backup under the same id, as after a clock was set back, is not what it was built upon.
    const other = full('01', 11)
    expect(choose([other, second])).toBe(other.id)
  })

  test('is not known to be damaged, nor in a chain that begins with a damaged one, and it is said why', () => {
    const { id } = second
    const shard = `${id}/base.0001.tar.zst`
    const why = `is known to be damaged (main/backups/${shard}: it is missing)`
    expect(choose([first, second], {}, [shard])).toBe(first.id)
    const known = damageIn([first, second], [shard])
    expect(chooseParent([[first, second]], { type: 'auto', maxChain: 15 }, FACTS, PLACE, known)).toEqual({
      parent: first,
      warning: expect.stringContaining(`backup ${id} ${why}`),
    })
    // A full backup before that would be no better, and a new one takes the place of the one that is lost.
    const fresh = full('02', 20)
    const index = `${fresh.id}/base.0001.index.jsonl.zst`
    for (const object of [`${fresh.id}/backup_manifest.zst`, index])
      for (const type of ['auto', 'diff'] as const)
        expect(choose([first, fresh], { type }, [object])).toBe(
          `${fresh.id} is no parent: it is known to be damaged (main/backups/${object}: it is missing)`,
        )
    expect(choose([first, fresh], {}, [`${fresh.id}/RESTORE.txt`])).toBe(fresh.id)
  })

  test('has a chain that may become longer', () => {
    expect(choose([first, second, third], { maxChain: 3 })).toBe(
      `the chain of ${third.id} has 3 links (backup.maxChain is 3)`,
    )
    expect(choose([first, second, third], { maxChain: 4 })).toBe(third.id)
  })

  test.each([
    ['it is of another cluster', { systemIdentifier: '7400000000000000002' }],
    ['it is of PostgreSQL 16', { postgres: { version: 160004, text: '16.4' } }],
    ['page checksums were switched since', { dataChecksums: false }],
    ['it was taken of a server that was shut down', { method: 'cold' as const }],
    ['it has damaged pages', { damagedPages: 1 }],
  ])('is passed over where %s', (reason, facts) => {
    const unfit = full('05', 40, facts)
    expect(choose([unfit])).toBe(`${unfit.id} is no parent: ${reason}`)
    expect(choose([first, unfit])).toBe(first.id)
  })

  test('is in every repository', () => {
    expect(choose([[first, second], [first]])).toBe(first.id)
    expect(choose([[first], []])).toBe(`${first.id} is no parent: it is not in every repository`)
    expect(choose([[first, second], [second]])).toBe(
      `${second.id} is no parent: it is not in every repository`,
    )
    const sameName = full('01', 10, { startedAt: '2026-11-01T00:00:01.000Z' })
    expect(choose([[first], [sameName]])).toBe(`${first.id} is no parent: it is not in every repository`)
  })

  test('lies in the past of the server', () => {
    const behind = { ...PLACE, lsn: lsn('0/A000000') }
    expect(choose([first], { place: behind })).toBe(
      `${first.id} is no parent: it ends at ${first.stop.lsn}, and the server is at 0/A000000`,
    )
    const promoted = (end: string): ServerPlace => ({
      timeline: 2,
      lsn: lsn('0/32000000'),
      history: [
        { timeline: 1, begin: 0n, end: lsn(end) },
        { timeline: 2, begin: lsn(end), end: undefined },
      ],
    })
    expect(choose([first], { place: promoted('0/B000000') })).toBe(first.id)
    // The new timeline begins while the backup was taken.
    expect(choose([first], { place: promoted('0/A000800') })).toContain(
      'which the server left before the end',
    )
    expect(choose([first], { place: { ...promoted('0/B000000'), history: undefined } })).toContain(
      'the way from there is not known',
    )
    expect(choose([full('01', 10, { timeline: 3 })], { place: promoted('0/B000000') })).toContain(
      'or never was on',
    )
  })

  test('is none for a server with other blocks', () => {
    expect(choose([first], { facts: { ...FACTS, blockBytes: 16384 } })).toBe(
      "the server's blocks have 16384 bytes instead of 8192",
    )
  })
})
