import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { zstdDecompressSync } from 'node:zlib'
import type { Lab } from '../lab/lab.ts'
import { poll } from '../lab/poll.ts'

/** What `backup.json` says, as far as these tests look at it. */
export interface StoredRecord {
  id: string
  standalone: boolean
  walSegmentBytes: number
  start: { walFile: string }
  stop: { walFile: string }
  objects: { name: string; kind: string; group?: string; bytes: number; sha256: string }[]
}

/** What `list --json` says of the lab's one repository. */
export interface Listing {
  backups: { id: string }[]
  damaged: unknown[]
  gaps: unknown[]
}

export const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

export const backupFolder = (lab: Lab, id: string) => join(lab.repository, 'main/backups', id)

export async function readRecord(lab: Lab, id: string): Promise<StoredRecord> {
  return JSON.parse(await readFile(join(backupFolder(lab, id), 'backup.json'), 'utf8')) as StoredRecord
}

/** Where a segment of a cluster with 16 MiB segments lies. */
export function segmentFile(repository: string, name: string): string {
  return join(repository, 'main/wal', name.slice(0, 8), name.slice(8, 16), `${name}.zst`)
}

/** @throws when `list` fails */
export async function list(lab: Lab): Promise<Listing> {
  const { exitCode, stdout, stderr } = await lab.pgrecall(['list', '--json'])
  if (exitCode !== 0) throw new Error(`list ended with ${exitCode}: ${stderr}`)
  const [listing] = JSON.parse(stdout) as [Listing]
  return listing
}

/** The ids of the listed backups, oldest first. */
export async function idsOf(lab: Lab): Promise<string[]> {
  return (await list(lab)).backups.map(({ id }) => id)
}

/**
 * The ids that `list` shows, oldest first, and everything that is wrong with them: a backup that lacks a byte or a
 * segment, a hole in the archive. It reads the repository by itself, so that pgrecall's own reading cannot hide its own
 * writing's mistakes.
 */
export async function inspect(lab: Lab): Promise<{ ids: string[]; problems: string[] }> {
  const { backups, damaged, gaps } = await list(lab)
  const problems = [
    ...damaged.map((entry) => `damaged: ${JSON.stringify(entry)}`),
    ...gaps.map((gap) => `gap: ${JSON.stringify(gap)}`),
  ]
  for (const { id } of backups) {
    const record = await readRecord(lab, id)
    problems.push(...(await wrongObjects(lab, record)), ...(await wrongWal(lab.repository, record)))
  }
  return { ids: backups.map(({ id }) => id), problems }
}

async function wrongObjects(lab: Lab, { id, objects }: StoredRecord): Promise<string[]> {
  const folder = backupFolder(lab, id)
  const expected = ['backup.json', ...objects.map(({ name }) => name)].sort()
  const problems = (await readdir(folder))
    .filter((name) => !expected.includes(name))
    .map((name) => `${id} holds ${name}, which its record does not name`)
  for (const { name, bytes, sha256: sum } of objects) {
    const stored = await readFile(join(folder, name)).catch(() => undefined)
    if (!stored) problems.push(`${id} lacks ${name}`)
    else if (stored.length !== bytes || sha256(stored) !== sum) problems.push(`${id}: ${name} is wrong`)
  }
  return problems
}

async function wrongWal(repository: string, record: StoredRecord): Promise<string[]> {
  if (record.standalone) return []
  const problems: string[] = []
  for (const name of segmentsBetween(record.start.walFile, record.stop.walFile)) {
    const plain = await readSegment(repository, name).catch((error: Error) => error)
    if (plain instanceof Error) problems.push(`${record.id} needs ${name}: ${plain.message}`)
    else if (plain.length !== record.walSegmentBytes) problems.push(`${name} has ${plain.length} bytes`)
  }
  return problems
}

function segmentsBetween(first: string, last: string): string[] {
  const number = (name: string) => parseInt(name.slice(8, 16), 16) * 256 + parseInt(name.slice(16), 16)
  const hex = (value: number) => value.toString(16).toUpperCase().padStart(8, '0')
  const names: string[] = []
  for (let at = number(first); at <= number(last); at++) {
    names.push(first.slice(0, 8) + hex(Math.floor(at / 256)) + hex(at % 256))
  }
  return names
}

/** The plain bytes of an archived segment: past the first frame, which zstd skips, there is one ordinary frame. */
export async function readSegment(repository: string, name: string): Promise<Buffer> {
  const stored = await readFile(segmentFile(repository, name))
  const headBytes = 8 + stored.readUInt32LE(4)
  const plain = zstdDecompressSync(stored.subarray(headBytes))
  const stated = /sha256=([0-9a-f]{64})/.exec(stored.toString('latin1', 8, headBytes))?.[1]
  if (sha256(plain) !== stated) throw new Error('its SHA-256 is wrong')
  return plain
}

/** What lies in a repository and belongs to no backup and no archived file. */
export async function debrisIn(repository: string, cluster = 'main'): Promise<string[]> {
  const debris: string[] = []
  for (const folder of ['.incoming', `${cluster}/locks`, `${cluster}/pins`]) {
    for (const name of await namesIn(join(repository, folder))) debris.push(`${folder}/${name}`)
  }
  for (const id of await namesIn(join(repository, cluster, 'backups'))) {
    if (!existsSync(join(repository, cluster, 'backups', id, 'backup.json'))) debris.push(`backups/${id}`)
  }
  return debris
}

/**
 * What is left when the server's archiver has come to rest: its pushes write temporary files too, but those go by
 * themselves.
 */
export async function lastingDebrisIn(repository: string): Promise<string[]> {
  try {
    await poll(async () => (await debrisIn(repository)).length === 0, { what: 'rest', timeoutMs: 5000 })
    return []
  } catch {
    return debrisIn(repository)
  }
}

async function namesIn(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => [])
}
