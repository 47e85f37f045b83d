import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { claimIdentity, markRepository } from '../../src/catalog/identity.ts'
import { droppedKey, receivingKey } from '../../src/catalog/layout.ts'
import type { Repository } from '../../src/catalog/repository.ts'
import type { CommandContext } from '../../src/commands/context.ts'
import { run as list } from '../../src/commands/list.ts'
import { run as show } from '../../src/commands/show.ts'
import { segmentName } from '../../src/postgres/wal-file.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'
import { increment, range, record, recordOf, SEGMENT, storeBackup, storeWal } from './stored.ts'

const ID = '20261120T120000Z-full'
const name = (number: number) => segmentName(1, BigInt(number), SEGMENT)

let scratch: Scratch
let there: Repository
let away: Repository
beforeAll(async () => {
  scratch = await Scratch.create('list')
  const storage = new LocalStorage(join(scratch.path, 'there'))
  there = plainRepository('there', storage)
  away = plainRepository('away', new LocalStorage(join(scratch.path, 'away')))
  await markRepository(storage)
  await claimIdentity(storage, 'main', { systemIdentifier: '7', walSegmentBytes: SEGMENT })
  await storeBackup(
    storage,
    record(ID, {
      first: 10,
      method: 'snapshot',
      label: 'before the great upgrade of everything',
      damagedPages: 1,
    }),
  )
  await storeWal(storage, range(10, 12))
  await storage.put(droppedKey('main', name(13)), Buffer.from('{}'))
  await storage.put(receivingKey('main', name(15)), Buffer.alloc(2048))
})
afterAll(() => scratch[Symbol.asyncDispose]())

const context = (...repositories: Repository[]) => wideContext(80, ...repositories)
const wideContext = (width: number, ...repositories: Repository[]) =>
  ({
    cluster: () => ({ name: 'main' }),
    clusters: () => ['main'],
    repositoriesOf: () => repositories,
    repositories: () => repositories,
    signal: new AbortController().signal,
    now: () => new Date(),
    view: { color: false, width },
  }) as unknown as CommandContext
const listed = (...repositories: Repository[]) => list({ args: [], options: {} }, context(...repositories))
const shown = (id: string | undefined, ...repositories: Repository[]) =>
  show({ args: id === undefined ? [] : [id], options: {} }, context(...repositories))

test('80 columns hold the tables, and no id and no name is cut', async () => {
  const { text } = await listed(there)
  const lines = text.split('\n')
  const [backup] = lines.filter((line) => line.startsWith(ID))
  const [run] = lines.filter((line) => line.includes(`${name(10)}  ${name(12)}`))
  expect(backup).toMatch(/2026-11-20T12:00:30Z +1 +1 +before/)
  expect(Math.max(backup!.length, run!.length)).toBeLessThanOrEqual(80)
})

test('what is being received is shown, and the hole before it', async () => {
  const { text, json } = await listed(there)
  expect(text).toMatch(new RegExp(`Segment ${name(15)} is being received: stored as 2.0 KiB at 20.*Z\\.`))
  expect(text).toContain(`timeline 1: ${name(13)} to ${name(14)} (2 segments), given up at `)
  expect(json).toMatchObject([{ gaps: [{ first: name(13), last: name(14) }] }])
})

test('a repository that is away hides no other', async () => {
  const { text, json, exitCode } = await listed(away, there)
  expect(text).toContain('It cannot be read: ')
  expect(text).toContain(ID)
  expect(exitCode).toBe(7)
  expect(json).toMatchObject([
    { repository: 'away', error: expect.stringContaining('is not a repository') },
    { repository: 'there', backups: [{ id: ID }] },
  ])
  expect(await listed(there)).not.toHaveProperty('exitCode')
  await expect(listed(away)).rejects.toMatchObject({ kind: 'repository' })
})

test('show does not take a folder that is not mounted for one without a backup', async () => {
  await expect(shown(undefined, away)).rejects.toMatchObject({ kind: 'repository' })
  await expect(shown('20260101T000000Z-full', there, away)).rejects.toMatchObject({ kind: 'repository' })
  await expect(shown('20260101T000000Z-full', there)).rejects.toMatchObject({ kind: 'absent' })
  const { text } = await shown(undefined, away, there)
  expect(text).toMatch(/on, 1 page was wrong/)
  expect(text).toMatch(/in 1 object\n/)
})

test('from the moment that is told a restore is possible', async () => {
  const storage = new LocalStorage(join(scratch.path, 'fraction'))
  await claimIdentity(storage, 'main', { systemIdentifier: '7', walSegmentBytes: SEGMENT })
  const full = record('20261101T120000Z-full', { first: 10 })
  const stop = { ...full.stop, time: '2026-11-01T12:00:59.960354Z' }
  const whole = record('20261102T120000Z-full', { first: 11 })
  const begun = recordOf(increment('20261103T120000Z-incr', { ...full, stop }, { first: 12 }))
  for (const backup of [{ ...full, stop }, whole, begun]) await storeBackup(storage, backup)
  const repository = plainRepository('fraction', storage)
  const rows = (await listed(repository)).text.split('\n')
  expect(rows.find((row) => row.startsWith(full.id))).toContain('2026-11-01T12:01:00Z')
  expect(rows.find((row) => row.startsWith(whole.id))).toContain('2026-11-02T12:00:30Z')
  const { text } = await shown(begun.id, repository)
  expect(text).toContain(`${full.id}  2026-11-01T12:01:00Z`)
})

describe('chains', () => {
  const FULL = record('20261101T120000Z-full', { first: 10, dataBytes: 2048, storedBytes: 1024 })
  const FIRST = recordOf(increment('20261102T120000Z-incr', FULL, { first: 11 }))
  const SECOND = recordOf(
    increment('20261103T120000Z-incr', FIRST, {
      first: 12,
      clusterBytes: 4096,
      storedBytes: 512,
      increment: {
        ...{ source: 'page-lsns', reason: 'the server keeps no WAL summaries' },
        ...{ changedBlocks: 77, readBytes: 4096 },
      },
    }),
  )
  const LOST = recordOf(increment('20261105T120000Z-incr', record('20261104T120000Z-full'), { first: 12 }))
  let repository: Repository
  beforeAll(async () => {
    const storage = new LocalStorage(join(scratch.path, 'chains'))
    repository = plainRepository('chains', storage)
    await claimIdentity(storage, 'main', { systemIdentifier: '7', walSegmentBytes: SEGMENT })
    for (const backup of [FULL, FIRST, SECOND, LOST]) await storeBackup(storage, backup)
    await storeWal(storage, range(10, 12))
  })
  const rowsOf = async (width: number) => {
    const { text } = await list({ args: [], options: {} }, wideContext(width, repository))
    return text.split('\n').slice(2, 7)
  }

  test('in 80 columns what builds upon others is set off, and a broken chain is marked', async () => {
    expect(await rowsOf(80)).toEqual([
      'Backup                   Restorable from       Timeline  Cluster   Stored',
      `${FULL.id}    2026-11-01T12:00:30Z         1  2.0 KiB  1.0 KiB`,
      `  ${FIRST.id}  2026-11-02T12:00:30Z         1    300 B     10 B`,
      `  ${SECOND.id}  2026-11-03T12:00:30Z         1  4.0 KiB    512 B`,
      `${LOST.id}    chain is broken              1    300 B     10 B`,
    ])
    const { text, json } = await listed(repository)
    expect(text).toContain(
      `Backup ${LOST.id} cannot be restored: it builds upon 20261104T120000Z-full, which is missing, or not the backup that it was then`,
    )
    expect(json).toMatchObject([{ brokenChains: [{ id: LOST.id, missing: '20261104T120000Z-full' }] }])
  })

  test('what builds upon an older chain than the one above is not set off below it, and it is told upon which', async () => {
    const storage = new LocalStorage(join(scratch.path, 'across'))
    const across = plainRepository('across', storage)
    await claimIdentity(storage, 'main', { systemIdentifier: '7', walSegmentBytes: SEGMENT })
    const cold = record('20261102T180000Z-full', { first: 12 })
    for (const backup of [FULL, FIRST, cold, SECOND]) await storeBackup(storage, backup)
    await storeWal(storage, range(10, 12))
    const textIn = async (width: number) =>
      (await list({ args: [], options: {} }, wideContext(width, across))).text
    const narrow = await textIn(80)
    expect(narrow.split('\n').slice(3, 7)).toEqual([
      expect.stringMatching(`^${FULL.id} `),
      expect.stringMatching(`^  ${FIRST.id} `),
      expect.stringMatching(`^${cold.id} `),
      expect.stringMatching(`^${SECOND.id} `),
    ])
    expect(narrow).toContain(`\n${SECOND.id} builds on ${FIRST.id}.\n`)
    expect(await textIn(120)).not.toContain(' builds on ')
  })

  test('in 120 columns a column says upon what', async () => {
    const [title, full, first] = await rowsOf(120)
    expect(title).toContain('Builds on')
    expect(full).toMatch(/ 1 {2}- +2.0 KiB/)
    expect(first).toContain(`  ${FULL.id}  `)
    expect(Math.max(...(await rowsOf(120)).map((row) => row.length))).toBeLessThanOrEqual(120)
  })

  test('show tells the source of the changes, and what each link adds', async () => {
    const { text, json } = await shown(SECOND.id, repository)
    expect(text).toContain(`Builds on       ${FIRST.id}  LSN ${FIRST.start.lsn}`)
    expect(text).toContain('Changed         77 blocks, known from the LSN of each page; 4.0 KiB were read')
    expect(text).toContain('\n                the server keeps no WAL summaries\n')
    expect(text).toContain(
      [
        'Link                   Ends at               Files  Changed     Adds   Stored',
        `${FULL.id}  2026-11-01T12:00:30Z      3        -  2.0 KiB  1.0 KiB`,
        `${FIRST.id}  2026-11-02T12:00:30Z      3       12     30 B     10 B`,
        `${SECOND.id}  2026-11-03T12:00:30Z      3       77     30 B    512 B`,
        'A restore reads up to 1.5 KiB of these 3 backups, and writes 4.0 KiB; what changed is counted in blocks.',
      ].join('\n'),
    )
    expect(json).toMatchObject({
      increment: SECOND.increment,
      chain: {
        storedBytes: 1546,
        links: [
          { id: FULL.id, type: 'full', changedBlocks: null, dataBytes: 2048, storedBytes: 1024 },
          { id: FIRST.id, type: 'incr', changedBlocks: 12 },
          { id: SECOND.id, method: 'files', files: 3, stopTime: SECOND.stop.time },
        ],
      },
    })
  })

  test('show tells of a link that is missing', async () => {
    const { text, json } = await shown(LOST.id, repository)
    expect(text).toContain(`Its chain is broken: backup ${LOST.id} builds upon 20261104T120000Z-full`)
    expect(json).toMatchObject({ chain: { error: expect.stringContaining('20261104T120000Z-full') } })
  })
})
