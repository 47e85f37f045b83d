import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { compressFrame } from '../../src/archive/codec.ts'
import { nameToBytes } from '../../src/archive/file-name.ts'
import type { Repository } from '../../src/catalog/repository.ts'
import { writeManifest } from '../../src/postgres/manifest.ts'
import { FileSet } from '../../src/reconstruction/file-set.ts'
import { CONTROL_ASIDE, MARKER } from '../../src/restore/data-directory.ts'
import type { RestorePlan } from '../../src/restore/plan.ts'
import { openManifest } from '../../src/restore/stored-manifest.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { plainRepository } from '../lab/repositories.ts'

const ID = '20261120T231500Z-full'
const KEY = `main/backups/${ID}/backup_manifest.zst`
const FILES: Record<string, string> = {
  PG_VERSION: '15\n',
  'base/1/1259': 'relations',
  'global/pg_control': 'control',
  'pg_tblspc/16390/PG_15_202209061/5/16400': 'rows',
}
const sha256 = (content: string | Buffer) => createHash('sha256').update(content).digest('hex')

let folder = ''
let storage: LocalStorage
let repository: Repository
let plan: RestorePlan
let plain: Buffer
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'pgrecall-manifest-'))
  storage = new LocalStorage(join(folder, 'repository'))
  repository = plainRepository('local', storage)
  const files = Object.entries(FILES).map(([path, content]) => ({
    path,
    size: content.length,
    modifiedMs: 0,
    sha256: sha256(content),
  }))
  const head = { systemIdentifier: '1', majorVersion: 15 }
  plain = Buffer.concat(await Array.fromAsync(writeManifest(head, files, [], nameToBytes)))
  const stored = compressFrame({ method: 'zstd', level: 1 }, plain)
  await storage.put(KEY, stored)
  const object = {
    name: 'backup_manifest.zst',
    kind: 'manifest',
    bytes: stored.length,
    sha256: sha256(stored),
  }
  plan = {
    backup: { id: ID, cluster: 'main', postgres: { version: 150_018 }, objects: [object] },
    dataDirectory: join(folder, 'data'),
    tablespaces: [{ oid: '16390', name: 'space', from: '/gone', to: join(folder, 'space') }],
  } as unknown as RestorePlan
  for (const [path, content] of Object.entries(FILES)) await put(path, content)
  await put(MARKER, '{}')
  await put('pg_wal/000000010000000000000001', 'WAL')
  await mkdir(join(folder, 'data/lost+found'))
  // Of a server of another version, with which the tablespace is shared.
  await put('pg_tblspc/16390/PG_14_202107181/5/1', 'not ours')
})
afterEach(() => rm(folder, { recursive: true }))

function placeOf(path: string): string {
  const inSpace = path.replace(/^pg_tblspc\/16390\//, '')
  return inSpace === path
    ? join(folder, 'data', path === 'global/pg_control' ? CONTROL_ASIDE : path)
    : join(folder, 'space', inSpace)
}

async function put(path: string, content: string): Promise<void> {
  await mkdir(dirname(placeOf(path)), { recursive: true })
  await writeFile(placeOf(path), content)
}

function setOf(files: Record<string, string>): FileSet {
  const set = new FileSet()
  for (const [path, content] of Object.entries(files)) set.add(path, content.length, sha256(content))
  return set
}

test('a set that is the same needs no look at the files', async () => {
  const manifest = await openManifest(plan.backup, repository)
  await rm(join(folder, 'data'), { recursive: true })
  await manifest.requireFiles(setOf(FILES), plan)
  expect(manifest.files.count).toBe(4)
})

test('a set that differs without a reason is no damage', async () => {
  const manifest = await openManifest(plan.backup, repository)
  await manifest.requireFiles(setOf({}), plan)
})

const HURTS: [what: string, hurt: () => Promise<void>, sentence: string][] = [
  ['missing', () => rm(placeOf('base/1/1259')), 'base/1/1259 is missing'],
  ['control', () => rm(placeOf('global/pg_control')), 'global/pg_control is missing'],
  ['longer', () => put('PG_VERSION', '15\n\n'), 'PG_VERSION has 4 bytes instead of 3'],
  ['changed', () => put('base/1/1259', 'relatiins'), 'base/1/1259 has a wrong SHA-256'],
  ['more', () => put('base/1/1', ''), 'base/1/1 is in no manifest'],
  [
    'in a tablespace',
    () => put('pg_tblspc/16390/PG_15_202209061/5/16400', 'cows'),
    'pg_tblspc/16390/PG_15_202209061/5/16400 has a wrong SHA-256',
  ],
  [
    'more in a tablespace',
    () => put('pg_tblspc/16390/PG_15_202209061/5/1', ''),
    'pg_tblspc/16390/PG_15_202209061/5/1 is in no manifest',
  ],
]
test.each(HURTS)('the file that differs is named: %s', async (_what, hurt, sentence) => {
  const manifest = await openManifest(plan.backup, repository)
  await hurt()
  await expect(manifest.requireFiles(setOf({}), plan)).rejects.toMatchObject({
    kind: 'damaged',
    message: `backup ${ID} is not what its manifest says: ${sentence}`,
  })
})

test('its plain bytes are written as they are', async () => {
  const manifest = await openManifest(plan.backup, repository)
  const path = join(folder, 'data/backup_manifest')
  await manifest.write(path, undefined)
  expect((await readFile(path)).equals(plain)).toBe(true)
})

test('damage is found before anything is written, and when it is read again', async () => {
  const manifest = await openManifest(plan.backup, repository)
  const bytes = await readFile(join(folder, 'repository', KEY))
  const damaged = { kind: 'damaged', message: expect.stringContaining(KEY) }
  for (const broken of [bytes.subarray(0, -1), Buffer.from(bytes).fill(0x55, 20, 21), Buffer.alloc(0)]) {
    await storage.put(KEY, broken)
    await expect(openManifest(plan.backup, repository)).rejects.toMatchObject(damaged)
    await expect(manifest.write(join(folder, 'data/backup_manifest'), undefined)).rejects.toMatchObject(
      damaged,
    )
  }
  await storage.remove(KEY)
  await expect(openManifest(plan.backup, repository)).rejects.toMatchObject(damaged)
})
