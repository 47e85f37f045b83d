import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { claimIdentity } from '../../src/catalog/identity.ts'
import type { Repository } from '../../src/catalog/repository.ts'
import { run as rebuild } from '../../src/commands/catalog-rebuild.ts'
import type { CommandContext } from '../../src/commands/context.ts'
import { run as list } from '../../src/commands/list.ts'
import { run as show } from '../../src/commands/show.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { readObject } from '../../src/storage/storage.ts'
import { plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'
import { record, SEGMENT, storeBackup } from './stored.ts'
import { CONTENTS, storeDumps } from './stored-dumps.ts'

const FIRST = '20261118T120000Z-logical'
const FULL = '20261119T120000Z-full'
const LAST = '20261120T120000Z-logical'

let scratch: Scratch
let mixed: Repository
let onlyLogical: Repository
let empty: Repository
beforeAll(async () => {
  scratch = await Scratch.create('list-logical')
  const repository = async (name: string) => {
    const storage = new LocalStorage(join(scratch.path, name))
    await claimIdentity(storage, 'main', { systemIdentifier: '42', walSegmentBytes: SEGMENT })
    return plainRepository(name, storage)
  }
  mixed = await repository('mixed')
  onlyLogical = await repository('only logical')
  empty = await repository('empty')
  await storeDumps(mixed, FIRST)
  await storeBackup(mixed.storage, record(FULL, { standalone: true }))
  await storeDumps(mixed, LAST, { selection: { tables: ['orders'], only: 'data' }, label: 'before the move' })
  await storeDumps(onlyLogical, FIRST)
})
afterAll(() => scratch[Symbol.asyncDispose]())

const context = (repository: Repository, width = 200) =>
  ({
    cluster: () => ({ name: 'main' }),
    clusters: () => ['main'],
    repositoriesOf: () => [repository],
    repositories: () => [repository],
    signal: new AbortController().signal,
    now: () => new Date(),
    view: { color: false, width },
  }) as unknown as CommandContext
const listed = async (repository: Repository, width?: number) =>
  (await list({ args: [], options: {} }, context(repository, width))).text
const shown = (id: string, options: Record<string, unknown> = {}, repository = mixed) =>
  show({ args: [id], options }, context(repository))

test('they have a table of their own, below the physical ones', async () => {
  const text = await listed(mixed)
  expect(text.indexOf(FULL)).toBeLessThan(text.indexOf(FIRST))
  expect(text).toMatch(new RegExp(`${FIRST}  2026-11-20T12:00:10Z +300 B +\\S+ KiB  shop, crm  -\n`))
  expect(text).toMatch(new RegExp(`${LAST} .* shop, crm  --table orders --data-only +before the move`))
  const narrow = await listed(mixed, 80)
  expect(
    Math.max(
      ...narrow
        .split('\n')
        .slice(2)
        .map((line) => line.length),
    ),
  ).toBeLessThanOrEqual(80)
  expect(narrow).toContain(FIRST)
})

test('where there is no other backup there is no other table, and no word of none', async () => {
  const text = await listed(onlyLogical)
  expect(text).toContain(FIRST)
  expect(text).not.toContain('No backups yet')
  expect(text).not.toContain('Restorable from')
  expect(await listed(empty)).toContain('No backups yet')
  expect(await listed(empty)).not.toContain('Logical')
})

test('show latest is the newest of either kind', async () => {
  expect((await shown('latest')).json).toMatchObject({ id: LAST, method: 'logical' })
  expect((await shown(FULL)).json).toMatchObject({ id: FULL, method: 'files' })
})

test('show tells databases, selection and objects', async () => {
  const { text, json } = await shown(LAST)
  expect(text).toMatch(/Selection +--table orders --data-only\n/)
  expect(text).toMatch(
    /shop +postgres +UTF8 +7\.6 MiB +2026-11-20T12:00:10Z +0\/A000028 +1 TABLE, 1 TABLE DATA/,
  )
  expect(text).toContain('crm.dump')
  expect(json).toMatchObject({
    repository: 'mixed',
    id: LAST,
    databases: [{ name: 'shop' }, { name: 'crm' }],
  })
})

test('show --contents lists what is inside, all or a part', async () => {
  const contentsOf = async (options: Record<string, unknown>) =>
    (await shown(LAST, { contents: true, ...options })).json
  expect(await contentsOf({})).toEqual({ repository: 'mixed', id: LAST, contents: CONTENTS })
  expect(await contentsOf({ database: 'shop', type: 'table' })).toMatchObject({ contents: [CONTENTS[0]] })
  expect((await shown(LAST, { contents: true, database: 'crm' })).text).toMatch(
    /\ncrm +TABLE +sales +leads +bob$/,
  )
  await expect(shown(LAST, { contents: true, database: 'none' })).rejects.toMatchObject({ kind: 'absent' })
  await expect(shown(FULL, { contents: true })).rejects.toMatchObject({ kind: 'usage' })
})

test('a list of what is inside that was removed is damage', async () => {
  const { storage } = onlyLogical
  const key = `main/backups/${FIRST}/contents.jsonl`
  const whole = (await readObject(storage, key))!
  await storage.remove(key)
  await expect(shown(FIRST, { contents: true }, onlyLogical)).rejects.toMatchObject({ kind: 'damaged' })
  await storage.put(key, whole)
  expect((await shown(FIRST, { contents: true }, onlyLogical)).json).toMatchObject({ contents: CONTENTS })
})

test('the rebuilt catalog has both kinds', async () => {
  const { json } = await rebuild({ args: [], options: {} }, context(mixed))
  expect(json).toMatchObject([{ backups: 1, logical: 2, damaged: [] }])
  expect(await listed(mixed)).toContain(LAST)
})
