import { hash, randomBytes } from 'node:crypto'
import {
  chmod,
  link,
  lstat,
  mkdir,
  readdir,
  readFile,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { newIdentity } from '../../src/archive/age.ts'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import type { Repository } from '../../src/catalog/repository.ts'
import { Events } from '../../src/events.ts'
import { reconstructionOf } from '../../src/reconstruction/reconstruction.ts'
import { verifyLinks } from '../../src/restore/chain-links.ts'
import { type ExtractChainOptions, extractChain, type RestoredFile } from '../../src/restore/extract-chain.ts'
import type { RestorePlan } from '../../src/restore/plan.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { encryptedRepository, plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'
import { BLOCK, ChainMaker, increment, type Made, MODIFIED_MS } from '../reconstruction/chain-maker.ts'
import { RandomChain } from '../reconstruction/random-chain.ts'

let scratch: Scratch
let repository: Repository
let data = ''
let space = ''
beforeEach(async () => {
  scratch = await Scratch.create('chain')
  repository = plainRepository('local', new LocalStorage(join(scratch.path, 'repository')))
  data = await scratch.folder('data')
  space = await scratch.folder('space')
})
afterEach(() => scratch[Symbol.asyncDispose]())

const SPACE = '16390'
const FOLDERS = ['global', 'base', 'base/1', 'base/5', 'base/16401', 'pg_tblspc', 'pg_notify'].map(
  (path) => ({
    path,
    mode: 0o750,
  }),
)
const SPACE_FOLDERS = ['PG_17_202406281', 'PG_17_202406281/5', 'PG_17_202406281/16401'].map((path) => ({
  path,
  mode: 0o700,
  group: SPACE,
}))

const blocks = (...fills: number[]) => Buffer.concat(fills.map((fill) => Buffer.alloc(BLOCK, fill)))
const one = (number: number, fill: number) => new Map([[number, Buffer.alloc(BLOCK, fill)]])

const WAL = 'pg_wal/000000010000000000000002'
const IN_SPACE = 'PG_17_202406281/5/16500'

/** Two links: unchanged, changed, new and dropped files, a tablespace, WAL, names that are no text. */
async function sample(maker = new ChainMaker(repository)): Promise<BackupRecord[]> {
  const folders = [...FOLDERS, ...SPACE_FOLDERS]
  await maker.add({
    folders: [...folders, { path: 'base/7', mode: 0o700 }],
    files: [
      { path: 'PG_VERSION', content: Buffer.from('17\n') },
      { path: 'base/1/1259', content: blocks(1, 2, 3) },
      { path: 'base/5/16384', content: blocks(1, 2, 3, 4) },
      { path: 'base/5/16385', content: blocks(1) },
      { path: 'base/16401/16402', content: blocks(1, 2, 3, 4, 5, 6) },
      { path: 'base/16401/PG_VERSION', content: Buffer.from('17\n') },
      { path: 'global/pg_control', content: blocks(1) },
      { path: IN_SPACE, content: blocks(7, 8), group: SPACE },
      { path: 'PG_17_202406281/16401/16502', content: blocks(7, 8), group: SPACE },
      { path: WAL, content: blocks(9), group: 'wal' },
    ],
  })
  await maker.add({
    folders,
    files: [
      { path: 'PG_VERSION', content: Buffer.from('17\n') },
      { path: 'note \udcfc', content: Buffer.from('no text'), mode: 0o640 },
      increment('base/1/1259', 3),
      increment('base/5/16384', 5, one(1, 20)),
      increment('base/16401/16402', 6, one(0, 9)),
      { path: 'base/16401/PG_VERSION', content: Buffer.from('17\n') },
      { path: 'global/pg_control', content: blocks(2) },
      { ...increment(IN_SPACE, 2, one(0, 70)), group: SPACE },
      { ...increment('PG_17_202406281/16401/16502', 2), group: SPACE },
      { path: 'pg_wal/000000010000000000000005', content: Buffer.alloc(1024 * 1024), group: 'wal' },
    ],
  })
  return maker.chain
}

interface Outcome {
  files: RestoredFile[]
  writtenBytes: number
  keptBytes: number
}

async function extract(
  chain: BackupRecord[],
  options: Partial<ExtractChainOptions> = {},
  dataDirectory = data,
): Promise<Outcome> {
  const files: RestoredFile[] = []
  const plan = {
    ...{ backup: chain.at(-1)!, chain, dataDirectory },
    tablespaces: [{ oid: SPACE, name: 'fast', from: '/elsewhere', to: space }],
  } as unknown as RestorePlan
  const extracted = await extractChain(plan, {
    reconstruction: await reconstructionOf(chain, options.repository ?? repository),
    ...{ repository, jobs: 2, owner: undefined, events: new Events(), delta: false, placeholders: [] },
    signal: new AbortController().signal,
    onFiles: (batch) => files.push(...batch),
    ...options,
  })
  const { writtenBytes, keptBytes } = extracted
  return { files, writtenBytes, keptBytes }
}

const inData = (path: string) => readFile(join(data, path))

async function requireSample(): Promise<void> {
  expect(await inData('base/1/1259')).toEqual(blocks(1, 2, 3))
  expect(await inData('base/5/16384')).toEqual(blocks(1, 20, 3, 4, 0))
  expect(await inData('global/pg_control.pgrecall')).toEqual(blocks(2))
  expect(await readFile(join(space, IN_SPACE))).toEqual(blocks(70, 8))
  expect(await readFile(Buffer.concat([Buffer.from(`${data}/note `), Buffer.of(0xfc)]))).toEqual(
    Buffer.from('no text'),
  )
  expect((await readdir(join(data, 'base/5'))).toSorted()).toEqual(['16384'])
}

test('every file is written as the newest link has it, and told', async () => {
  const { files, writtenBytes, keptBytes } = await extract(await sample())
  await requireSample()
  expect(await readdir(join(data, 'global'))).toEqual(['pg_control.pgrecall'])
  expect(await readdir(join(data, 'base'))).not.toContain('7')
  expect(await readdir(join(data, 'pg_notify'))).toEqual([])
  expect((await stat(join(data, 'pg_notify'))).mode & 0o777).toBe(0o750)
  const note = await stat(Buffer.concat([Buffer.from(`${data}/note `), Buffer.of(0xfc)]))
  expect(note.mode & 0o777).toBe(0o640)
  expect((await stat(join(data, 'base/5/16384'))).mtimeMs).toBe(MODIFIED_MS)
  const wal = await stat(join(data, 'pg_wal/000000010000000000000005'))
  expect(wal.blocks * 512).toBeGreaterThanOrEqual(1024 * 1024)
  expect(await readdir(join(data, 'pg_wal'))).toEqual(['000000010000000000000005'])
  const told = new Map(files.map((file) => [file.path, file]))
  expect([...told.keys()].toSorted()).toEqual(
    [
      ...['PG_VERSION', 'note \udcfc', 'base/1/1259', 'base/5/16384', 'base/16401/16402'],
      ...['base/16401/PG_VERSION', 'global/pg_control', `pg_tblspc/${SPACE}/${IN_SPACE}`],
      `pg_tblspc/${SPACE}/PG_17_202406281/16401/16502`,
    ].toSorted(),
  )
  expect(told.get('base/5/16384')).toEqual({
    ...{ path: 'base/5/16384', size: 5 * BLOCK, modifiedMs: MODIFIED_MS, asRecorded: false },
    sha256: hash('sha256', blocks(1, 20, 3, 4, 0)),
  })
  expect(
    files
      .filter(({ asRecorded }) => asRecorded)
      .map(({ path }) => path)
      .toSorted(),
  ).toEqual(['PG_VERSION', 'note \udcfc', 'base/16401/PG_VERSION', 'global/pg_control'].toSorted())
  expect(keptBytes).toBe(0)
  expect(writtenBytes).toBe(1024 * 1024 + BLOCK * (3 + 5 + 6 + 1 + 2 + 2) + 3 + 3 + 7)
})

test('what is there already is left alone, and only the blocks that differ are written', async () => {
  const chain = await sample()
  await extract(chain)
  const table = join(data, 'base/5/16384')
  await writeFile(table, blocks(1, 20, 99, 4, 0, 6))
  const same = join(data, 'base/1/1259')
  await utimes(same, 1, 1)
  await writeFile(join(data, 'PG_VERSION'), '16\n')
  await chmod(join(data, 'base/16401/16402'), 0o644)
  const before = await lstat(same, { bigint: true })
  const { files, writtenBytes, keptBytes } = await extract(chain, { delta: true })
  await requireSample()
  expect(await inData('PG_VERSION')).toEqual(Buffer.from('17\n'))
  expect(writtenBytes).toBe(BLOCK + 3)
  const total = 1024 * 1024 + BLOCK * (3 + 5 + 6 + 1 + 2 + 2) + 3 + 3 + 7
  expect(keptBytes).toBe(total - writtenBytes)
  expect(files).toHaveLength(9)
  const after = await lstat(same, { bigint: true })
  expect(after.ino).toBe(before.ino)
  expect(Number(after.mtimeMs)).toBe(MODIFIED_MS)
  expect((await stat(join(data, 'base/16401/16402'))).mode & 0o777).toBe(0o600)
  expect((await stat(table)).mtimeMs).toBe(MODIFIED_MS)
})

test('a file that is right is not asked of the repository', async () => {
  const maker = new ChainMaker(repository)
  await maker.add({ files: [{ path: 'base/5/1', content: blocks(1, 2) }], folders: FOLDERS })
  await extract(maker.chain)
  const [shard] = maker.chain[0]!.objects
  await repository.storage.remove(`main/backups/${maker.chain[0]!.id}/${shard!.name}`)
  const { files, writtenBytes } = await extract(maker.chain, { delta: true })
  expect(files).toHaveLength(1)
  expect(writtenBytes).toBe(0)
  await expect(extract(maker.chain, {}, await scratch.folder('other'))).rejects.toMatchObject({
    kind: 'damaged',
    message: expect.stringContaining('missing'),
  })
})

test('a file with another name too is not written through, and no link is followed', async () => {
  const chain = await sample()
  await mkdir(join(data, 'base/5'), { recursive: true })
  const outside = join(scratch.path, 'outside')
  await writeFile(outside, blocks(5, 5))
  await link(outside, join(data, 'base/5/16384'))
  await extract(chain, { delta: true })
  await requireSample()
  expect(await readFile(outside)).toEqual(blocks(5, 5))
  await symlink(outside, join(data, 'base/5/1'))
  const maker = new ChainMaker(repository)
  await maker.add({ files: [{ path: 'base/5/1', content: blocks(1) }], folders: FOLDERS })
  await expect(extract(maker.chain, { delta: true })).rejects.toMatchObject({ kind: 'failed' })
  expect(await readFile(outside)).toEqual(blocks(5, 5))
})

test('of a database that is left out, relations are zeros that take no space', async () => {
  const chain = await sample()
  for (const delta of [false, true]) {
    const { files } = await extract(chain, { placeholders: ['16401'], delta })
    expect(await inData('base/16401/16402')).toEqual(Buffer.alloc(6 * BLOCK))
    expect((await stat(join(data, 'base/16401/16402'))).blocks).toBe(0)
    expect(await readFile(join(space, 'PG_17_202406281/16401/16502'))).toEqual(Buffer.alloc(2 * BLOCK))
    expect(await inData('base/16401/PG_VERSION')).toEqual(Buffer.from('17\n'))
    await requireSample()
    const told = files.filter(({ sha256 }) => sha256 === undefined)
    expect(told.map(({ path, size, asRecorded }) => [path, size, asRecorded]).toSorted()).toEqual([
      ['base/16401/16402', 6 * BLOCK, false],
      [`pg_tblspc/${SPACE}/PG_17_202406281/16401/16502`, 2 * BLOCK, false],
    ])
    await writeFile(join(data, 'base/16401/16402'), randomBytes(9 * BLOCK))
  }
})

test('of an encrypted chain', async () => {
  const { identity, recipient } = await newIdentity()
  const storage = new LocalStorage(join(scratch.path, 'sealed'))
  const sealed = encryptedRepository('sealed', storage, [recipient], [identity])
  await extract(await sample(new ChainMaker(sealed)), { repository: sealed })
  await requireSample()
})

test.each([101, 102, 103, 104])('random chains, new and upon an older state: seed %i', async (seed) => {
  const drawn = new RandomChain(seed)
  const maker = new ChainMaker(repository)
  for (let link = 0; link < 5; link++) {
    drawn.addLink(40)
    const files = drawn.links.at(-1)!
    const shards = [files.slice(0, 13), files.slice(13)]
    await maker.add({ files, shards, folders: FOLDERS })
    if (link === 2) await extract(maker.chain)
  }
  const require = async (root: string) => {
    for (const [path, content] of drawn.expected)
      expect((await readFile(join(root, path))).equals(content), `${path} of seed ${seed}`).toBe(true)
  }
  await extract(maker.chain, { delta: true })
  await require(data)
  const fresh = await scratch.folder('fresh')
  await extract(maker.chain, {}, fresh)
  await require(fresh)
  expect((await readdir(join(fresh, 'base/5'))).length).toBe(drawn.expected.size)
})

const HOSTILE: [string, Made, { path: string; mode: number }[]][] = [
  ['a file outside', { path: '../outside', content: blocks(1) }, FOLDERS],
  ['a file through the link of a tablespace', { path: `pg_tblspc/${SPACE}/x`, content: blocks(1) }, FOLDERS],
  ['a folder outside', { path: 'base/5/1', content: blocks(1) }, [{ path: 'base/../..', mode: 0o700 }]],
]
test.each(HOSTILE)('refused before any file is written: %s', async (_what, file, folders) => {
  const maker = new ChainMaker(repository)
  await maker.add({ files: [file], folders })
  await expect(extract(maker.chain)).rejects.toMatchObject({ kind: 'damaged' })
  const entries = await readdir(data, { recursive: true, withFileTypes: true })
  expect(entries.filter((entry) => !entry.isDirectory())).toEqual([])
  expect(await readdir(scratch.path)).not.toContain('outside')
})

test('wrong bytes in an increment end the restore with the name of the file and of the link', async () => {
  const maker = new ChainMaker(repository)
  await maker.add({ files: [{ path: 'base/5/1', content: blocks(1, 2) }], folders: FOLDERS })
  const wrong = { ...increment('base/5/1', 2, one(1, 3)), sha256: 'ab'.repeat(32) }
  await maker.add({ files: [wrong], folders: FOLDERS })
  await expect(extract(maker.chain)).rejects.toMatchObject({
    kind: 'damaged',
    message: expect.stringMatching(/20260102T000000Z-incr.*base\/5\/INCREMENTAL\.1/),
  })
})

test('an abort ends it', async () => {
  const chain = await sample()
  const aborted = AbortSignal.abort(new Error('enough'))
  await expect(extract(chain, { signal: aborted })).rejects.toThrow('enough')
})

test('every stored byte of the links is checked', async () => {
  const chain = await sample()
  const context = { repository, jobs: 2, events: new Events(), signal: new AbortController().signal }
  await verifyLinks(chain.slice(1), context)
  for (const { name, kind, bytes } of chain[1]!.objects) {
    const path = join(scratch.path, 'repository/main/backups', chain[1]!.id, name)
    const good = await readFile(path)
    const hurt = Buffer.from(good)
    hurt[bytes >> 1]! ^= 1
    await chmod(path, 0o600)
    await writeFile(path, hurt)
    await expect(verifyLinks(chain.slice(1), context), kind).rejects.toMatchObject({
      kind: 'damaged',
      message: expect.stringContaining(name),
    })
    await writeFile(path, good)
  }
})
