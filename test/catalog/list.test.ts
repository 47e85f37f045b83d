import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
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
import { range, record, SEGMENT, storeBackup, storeWal } from './stored.ts'

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

const context = (...repositories: Repository[]) =>
  ({
    cluster: () => ({ name: 'main' }),
    clusters: () => ['main'],
    repositoriesOf: () => repositories,
    repositories: () => repositories,
    signal: new AbortController().signal,
    now: () => new Date(),
    view: { color: false, width: 80 },
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
