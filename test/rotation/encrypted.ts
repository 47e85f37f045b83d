import { createHash, randomBytes } from 'node:crypto'
import { cp, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { newIdentity, readSealHeader } from '../../src/archive/age.ts'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import { storeRecord, storeRestoreText } from '../../src/catalog/commit-backup.ts'
import { claimIdentity, markRepository } from '../../src/catalog/identity.ts'
import { backupPrefix, receivingKey, walKey } from '../../src/catalog/layout.ts'
import { ObjectSum } from '../../src/catalog/object-sum.ts'
import type { Repository } from '../../src/catalog/repository.ts'
import { readWholeContent } from '../../src/catalog/sealed-object.ts'
import { segmentName, segmentNumber } from '../../src/postgres/wal-file.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { readObject, type Storage } from '../../src/storage/storage.ts'
import { pushWalFile } from '../../src/wal/push.ts'
import { storeIn } from '../backup/opened.ts'
import { keysOf, record } from '../catalog/stored.ts'
import type { Scratch } from '../lab/scratch.ts'
import { SEGMENT, START, WalWriter } from '../postgres/wal-writer.ts'

export type KeyPair = Awaited<ReturnType<typeof newIdentity>>

export const ID = '20261120T231500Z-full'
export const DEBRIS = '20261121T231500Z-full'
export const FOLDER = backupPrefix('main', ID)
export const SEGMENTS = [0n, 1n].map((number) =>
  segmentName(1, segmentNumber(START, SEGMENT) + number, SEGMENT),
)

/** An empty repository of the cluster `main`. */
export async function emptyRepository(scratch: Scratch, name: string): Promise<LocalStorage> {
  const storage = new LocalStorage(join(scratch.path, name))
  await storage.create(undefined)
  await markRepository(storage)
  await claimIdentity(storage, 'main', { systemIdentifier: '42', walSegmentBytes: SEGMENT })
  return storage
}

/** The same as it is now, at another place. */
export async function copyOf(storage: Storage, path: string): Promise<LocalStorage> {
  await cp(storage.location, path, { recursive: true })
  return new LocalStorage(path)
}

/** Stores a backup as `backup` does, with some bytes as its objects. */
export async function storeSealedBackup(
  repository: Repository,
  id = ID,
  { isComplete = true } = {},
): Promise<void> {
  const { storage, keys } = repository
  const folder = backupPrefix('main', id)
  const run = await newIdentity()
  const store = storeIn([repository], folder, { indexRecipient: run.recipient })
  const put = async (name: string, bytes: number, isIndex = false) =>
    (await store.put(name, pieces(randomBytes(bytes)), { isIndex }))[repository.name]!
  const objects: BackupRecord['objects'] = [
    { ...(await put('base.0001.tar.zst', 200_000)), kind: 'shard', group: 'base' },
    { ...(await put('base.0001.index.jsonl.zst', 3000, true)), kind: 'index' },
    { ...(await put('backup_manifest.zst', 1000)), kind: 'manifest' },
  ]
  if (!isComplete) return
  const made = { ...record(id), objects, systemIdentifier: '42', walSegmentBytes: SEGMENT }
  const recipients = keys.sealer ? { recipients: [...keys.sealer.recipients] } : {}
  const draft = await storeRestoreText(storage, folder, { ...made, ...recipients })
  await storeRecord(storage, folder, draft, new Date('2026-11-20T23:16:00Z'))
}

async function* pieces(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes
}

/** Two segments, one after the other. */
const WAL = (() => {
  const writer = new WalWriter(2)
  for (let index = 0; index < 2; index++) {
    writer.at = index * SEGMENT
    writer.page(0, 0)
    writer.segment(index).fill(0x5a, 40)
  }
  return writer
})()

/** Archives a segment, or the history of timeline 2, as `wal-push` does. */
export async function archive(scratch: Scratch, repository: Repository, name: string): Promise<string> {
  const path = join(scratch.path, name)
  const content = name.endsWith('.history')
    ? Buffer.from('1\t5/FFE00100\tpromoted\n')
    : WAL.segment(SEGMENTS.indexOf(name))
  await writeFile(path, content)
  const { repositories } = await pushWalFile({
    path,
    cluster: 'main',
    repositories: [repository],
    level: 1,
  })
  return repositories[0]!.result
}

/** A backup, the remains of another one, WAL, and a segment that is being received. */
export async function fill(scratch: Scratch, repository: Repository): Promise<void> {
  await storeSealedBackup(repository)
  await storeSealedBackup(repository, DEBRIS, { isComplete: false })
  for (const name of [...SEGMENTS, '00000002.history']) await archive(scratch, repository, name)
  await receive(repository)
}

/** Stores the beginning of a segment, as `wal-receive` does. */
async function receive({ storage, keys }: Repository): Promise<void> {
  const seal = await keys.sealer!.seal()
  const object = Buffer.concat([seal.header, seal.encryptWhole([Buffer.from('some WAL')])])
  await storage.put(receivingKey('main', SEGMENTS[1]!, 'sealed'), object)
}

/** The keys of all encrypted objects, without the one that is being received. */
export async function sealedKeys(storage: Storage): Promise<string[]> {
  return (await keysOf(storage, 'main/')).filter(
    (key) => key.endsWith('.age') && !key.includes('.receiving.'),
  )
}

/** Every object's sum, by its key; of an encrypted one without its header when `payloads` are asked for. */
export async function sums(
  storage: Storage,
  { payloads = false, except = /catalog\.json$/ } = {},
): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const key of await keysOf(storage)) {
    if (except.test(key)) continue
    const bytes = (await readObject(storage, key))!
    const start = payloads && key.endsWith('.age') ? readSealHeader(bytes)!.headerBytes : 0
    found[key] = createHash('sha256').update(bytes.subarray(start)).digest('hex')
  }
  return found
}

/** What a stored object is, as it would be recorded. */
export async function factsOf(storage: Storage, key: string) {
  const sum = new ObjectSum(key.endsWith('.age'))
  sum.push((await readObject(storage, key))!)
  return sum.end()
}

/** The encrypted objects that a repository's keys open. */
export async function readable(repository: Repository): Promise<string[]> {
  const opened: string[] = []
  for (const key of await sealedKeys(repository.storage)) {
    const content = await readWholeContent(repository, key).catch((error) => {
      if (error.kind !== 'key') throw error
      return undefined
    })
    if (content) opened.push(key)
  }
  return opened
}

export const segmentKey = (name: string) => walKey('main', name, 'sealed')
