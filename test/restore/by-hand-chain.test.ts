import { mkdir, mkdtemp, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { padding, TAR_END, tarHeader } from '../../src/archive/tar.ts'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import { handRestoreText } from '../../src/catalog/hand-restore.ts'
import { encodeIncrementalHeader, incrementalName } from '../../src/postgres/incremental-file.ts'
import { record } from '../catalog/stored.ts'

const PAGE = 8192
const IDS = ['20261116T120000Z-full', '20261117T120000Z-incr', '20261118T120000Z-incr']
const SPACE = 'PG_17_202406281/5'

/** Pages, each of which is full of one byte. */
const pages = (...bytes: number[]) => Buffer.concat(bytes.map((byte) => Buffer.alloc(PAGE, byte)))

/** An incremental file: the length up to which the one below counts, and blocks by number, each full of one byte. */
function changes(truncationBlocks: number, blocks: Record<number, number>): Buffer {
  const numbers = Object.keys(blocks).map(Number)
  const header = encodeIncrementalHeader({ truncationBlocks, blocks: Uint32Array.from(numbers) }, PAGE)
  return Buffer.concat([header, pages(...Object.values(blocks))])
}

/** More numbers than there is room for in one page, in runs. */
const MANY = 2400
const SCATTERED = Array.from({ length: MANY }, (_, block) => block).filter((block) => block % 30 !== 0)

interface Made {
  base: Record<string, Buffer | string>
  spaces?: Record<string, Record<string, Buffer | string>>
}

const below = (path: string) => incrementalName(path)

/** A chain of three; what becomes of each file says its name. */
const LINKS: Made[] = [
  {
    base: {
      PG_VERSION: '17\n',
      backup_label: 'full\n',
      'postgresql.conf': 'old',
      'base/5/1': pages(1, 2, 3, 4, 5, 6),
      'base/5/2.1': pages(1, 2, 3),
      'base/5/3': pages(1, 2, 3),
      'base/5/4': pages(1, 2, 3, 4),
      "base/5/it's here": 'odd',
      'base/7/dropped': pages(1),
      'base/5/5': pages(9, 9),
      'base/5/10': pages(7),
      'global/pg_control': 'one',
    },
    spaces: { 16500: { [`${SPACE}/6`]: pages(1, 2, 3) }, 16501: { [`${SPACE}/7`]: pages(1) } },
  },
  {
    base: {
      PG_VERSION: '17\n',
      backup_label: 'first\nINCREMENTAL FROM LSN: 0/1\nINCREMENTAL FROM TLI: 1\n',
      'postgresql.conf': 'new',
      [below('base/5/1')]: changes(6, { 1: 21, 2: 22, 4: 24 }),
      [below('base/5/2.1')]: changes(3, {}),
      // Cut to one block, and grown again.
      [below('base/5/3')]: changes(1, { 3: 33 }),
      [below('base/5/4')]: changes(2, {}),
      "base/5/it's here": 'odder',
      'base/5/5': '',
      [below('base/5/10')]: changes(1, {}),
      'global/pg_control': 'two',
    },
    spaces: { 16500: { [below(`${SPACE}/6`)]: changes(3, { 0: 61 }) } },
  },
  {
    base: {
      PG_VERSION: '17\n',
      backup_label: 'second\nINCREMENTAL FROM LSN: 0/2\nINCREMENTAL FROM TLI: 1\n',
      'postgresql.conf': 'new',
      [below('base/5/1')]: changes(6, { 0: 30, 1: 31, 7: 37 }),
      [below('base/5/2.1')]: changes(3, { 2: 42 }),
      [below('base/5/3')]: changes(5, {}),
      [below('base/5/4')]: changes(4, {}),
      "base/5/it's here": 'odder',
      'base/5/5': pages(5),
      'base/5/8': pages(8),
      [below('base/5/10')]: changes(MANY, Object.fromEntries(SCATTERED.map((block) => [block, 44]))),
      'global/pg_control': 'three',
    },
    spaces: { 16500: { [below(`${SPACE}/6`)]: changes(2, {}), [`${SPACE}/9`]: pages(9) } },
  },
]

const RESULT: Record<string, Buffer | string> = {
  PG_VERSION: '17\n',
  backup_label: 'second\n',
  'postgresql.conf': 'new',
  'base/5/1': pages(30, 31, 22, 4, 24, 6, 0, 37),
  'base/5/2.1': pages(1, 2, 42),
  'base/5/3': pages(1, 0, 0, 33, 0),
  'base/5/4': pages(1, 2, 0, 0),
  "base/5/it's here": 'odder',
  'base/5/5': pages(5),
  'base/5/8': pages(8),
  'base/5/10': pages(7, ...Array.from({ length: MANY - 1 }, (_, at) => ((at + 1) % 30 === 0 ? 0 : 44))),
  'global/pg_control': 'three',
}
const RESULT_IN_SPACE = { [`${SPACE}/6`]: pages(61, 2), [`${SPACE}/9`]: pages(9) }

let folder = ''
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), `pgrecall-by "hand"-`))
  for (const [index, made] of LINKS.entries()) await store(index, made)
})
afterEach(() => rm(folder, { recursive: true }))

async function store(index: number, { base, spaces = {} }: Made): Promise<void> {
  const id = IDS[index]!
  const parent = IDS[index - 1]
  const path = join(folder, 'main/backups', id)
  await mkdir(path, { recursive: true })
  const groups = { base, ...spaces }
  const draft: BackupRecord = {
    ...record(id),
    ...(parent && { parent: { id: parent, startLsn: '0/1', timeline: 1 } }),
    tablespaces: Object.keys(spaces).map((oid) => ({ oid, name: 's', location: '/nowhere', bytes: 1 })),
    objects: [
      ...Object.keys(groups).map((group) => ({
        name: `${group}.0001.tar`,
        kind: 'shard' as const,
        group,
        bytes: 1,
        sha256: 'a'.repeat(64),
      })),
      { name: 'backup_manifest', kind: 'manifest', bytes: 1, sha256: 'a'.repeat(64) },
    ],
  }
  for (const [group, files] of Object.entries(groups)) {
    await writeFile(join(path, `${group}.0001.tar`), tarOf(files))
  }
  await writeFile(join(path, 'backup_manifest'), `manifest of ${id}`)
  await writeFile(join(path, 'RESTORE.txt'), handRestoreText(draft))
}

function tarOf(files: Record<string, Buffer | string>): Buffer {
  const facts = { mtime: 1_000_000, uid: process.getuid!(), gid: process.getgid!() }
  const folders = new Set(Object.keys(files).flatMap((path) => parentsOf(path)))
  const directories = [...folders].map((path) =>
    tarHeader({ path, type: 'directory', size: 0, mode: 0o700, ...facts }),
  )
  const members = Object.entries(files).flatMap(([path, content]) => {
    const bytes = Buffer.from(content)
    const header = tarHeader({ path, type: 'file', size: bytes.length, mode: 0o600, ...facts })
    return [header, bytes, Buffer.alloc(padding(bytes.length))]
  })
  return Buffer.concat([...directories, ...members, TAR_END])
}

function parentsOf(path: string): string[] {
  const parent = dirname(path)
  return parent === '.' ? [] : [...parentsOf(parent), parent]
}

const run = (id: string, env: Record<string, string>) =>
  execa('sh', [join(folder, 'main/backups', id, 'RESTORE.txt')], {
    cwd: folder,
    env: { WAL: '/nowhere', ...env },
    reject: false,
  })

async function filesIn(root: string): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
    .toSorted()
}

test('a chain is put together block by block, and what the newest backup does not have is gone', async () => {
  const DATA = join(folder, 'restored data')
  const space = join(folder, 'restored space')
  const result = await run(IDS[2]!, { DATA, TABLESPACE_16500: space })
  expect(result).toMatchObject({ exitCode: 0, stderr: '' })
  const written = ['postgresql.auto.conf', 'recovery.signal']
  expect(await filesIn(DATA)).toEqual([...Object.keys(RESULT), ...written].toSorted())
  for (const [path, content] of Object.entries(RESULT)) {
    expect([path, (await readFile(join(DATA, path))).equals(Buffer.from(content))]).toEqual([path, true])
  }
  expect(await filesIn(space)).toEqual(Object.keys(RESULT_IN_SPACE).toSorted())
  for (const [path, content] of Object.entries(RESULT_IN_SPACE)) {
    expect([path, (await readFile(join(space, path))).equals(content)]).toEqual([path, true])
  }
  expect(await readdir(join(DATA, 'pg_tblspc'))).toEqual(['16500'])
  expect(await readlink(join(DATA, 'pg_tblspc/16500'))).toBe(space)
})

test('a link alone is what pg_combinebackup takes', async () => {
  const DATA = join(folder, 'alone')
  const result = await run(IDS[1]!, { DATA, TABLESPACE_16500: join(folder, 'space'), ONLY: 'link' })
  expect(result).toMatchObject({ exitCode: 0, stderr: '' })
  expect(await filesIn(DATA)).toEqual([...Object.keys(LINKS[1]!.base), 'backup_manifest'].toSorted())
  expect(await readFile(join(DATA, 'backup_label'), 'utf8')).toBe(LINKS[1]!.base.backup_label)
  expect(await readFile(join(DATA, 'backup_manifest'), 'utf8')).toBe(`manifest of ${IDS[1]}`)
})

test('what is no incremental file stops it', async () => {
  await store(1, { ...LINKS[1]!, base: { ...LINKS[1]!.base, [below('base/5/1')]: pages(1) } })
  const DATA = join(folder, 'stopped')
  const { exitCode, stderr } = await run(IDS[2]!, { DATA, TABLESPACE_16500: join(folder, 'space') })
  expect(exitCode).not.toBe(0)
  expect(stderr).toContain('is no incremental file')
})

test('a chain of which a link is missing stops it', async () => {
  await rm(join(folder, 'main/backups', IDS[0]!), { recursive: true })
  const { exitCode } = await run(IDS[2]!, { DATA: join(folder, 'stopped'), TABLESPACE_16500: folder })
  expect(exitCode).not.toBe(0)
})
