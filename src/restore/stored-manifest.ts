import { createHash } from 'node:crypto'
import { lstat, open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { decode, methodOf } from '../archive/codec.ts'
import { fsPath, nameFromBytes } from '../archive/file-name.ts'
import type { BackupObject, BackupRecord } from '../catalog/backup-record.ts'
import { backupPrefix } from '../catalog/layout.ts'
import { isAsRecorded, ObjectSum } from '../catalog/object-sum.ts'
import { isSealed, type ReadableRepository, readContent } from '../catalog/sealed-object.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import { originalName } from '../postgres/incremental-file.ts'
import { type ManifestEntry, ManifestReader } from '../postgres/manifest-reader.ts'
import { FileSet } from '../reconstruction/file-set.ts'
import { CONTROL_ASIDE, MARKER, type Owner, writeFileFor } from './data-directory.ts'
import type { RestorePlan } from './plan.ts'

/**
 * Reads a backup's manifest once, to see that it is whole. A manifest of a million files has hundreds of megabytes, so
 * it is never held: whoever needs its lines reads it again.
 * @throws PgrecallError `damaged`
 */
export async function openManifest(
  backup: BackupRecord,
  repository: ReadableRepository,
): Promise<StoredManifest> {
  const object = backup.objects.find((candidate) => candidate.kind === 'manifest')
  if (!object) throw new PgrecallError('damaged', `the record of backup ${backup.id} names no manifest`)
  const key = backupPrefix(backup.cluster, backup.id) + object.name
  const manifest = new StoredManifest(key, object, repository)
  await manifest.read()
  return manifest
}

/** Adds a file of which the manifest tells no more than that it is there. */
export function addMade(files: FileSet, path: string): void {
  files.add(path, 0, '')
}

export class StoredManifest {
  readonly #key: string
  /** What it lists; known when it was read. */
  files = new FileSet()
  readonly #object: BackupObject
  readonly #repository: ReadableRepository

  constructor(key: string, object: BackupObject, repository: ReadableRepository) {
    this.#key = key
    this.#object = object
    this.#repository = repository
  }

  /** Reads it whole, and checks its bytes and its own checksum. */
  async read(): Promise<void> {
    const files = new FileSet()
    await this.readEach(({ path, size, checksum = '' }) => files.add(path, size, checksum))
    this.files = files
  }

  /**
   * Every file of the manifest is there with its size and sum, and nothing else is.
   * @param extracted what was written
   * @throws PgrecallError `damaged`, which names a file
   */
  async requireFiles(extracted: FileSet, plan: RestorePlan): Promise<void> {
    if (!this.files.equals(extracted)) await this.#requireEach(plan, () => false)
  }

  /**
   * The same of what was put together: every file of the manifest is there, those that are as the manifest has them with
   * size and sum, and nothing else is.
   * @param written what was written, made files by their names alone
   * @param isMade whether the file under this path of the manifest is not what the manifest lists
   * @throws PgrecallError `damaged`, which names a file
   */
  async requireMade(written: FileSet, plan: RestorePlan, isMade: (path: string) => boolean): Promise<void> {
    const expected = new FileSet()
    await this.readEach(({ path, size, checksum = '' }) => {
      if (isMade(path)) addMade(expected, originalName(path) ?? path)
      else expected.add(path, size, checksum)
    })
    if (!expected.equals(written)) await this.#requireEach(plan, isMade)
  }

  /** Writes its plain bytes, as PostgreSQL's own programs read them. */
  async write(path: string, owner: Owner): Promise<void> {
    await writeFileFor(path, this.#plain(), owner)
  }

  /** The slow way, which reads what was written: it finds the file, or sees that the difference means nothing. */
  async #requireEach(plan: RestorePlan, isMade: (path: string) => boolean): Promise<void> {
    const refuse = (what: string) =>
      new PgrecallError('damaged', `backup ${plan.backup.id} is not what its manifest says: ${what}`, {
        hint: 'restore from another repository or from another backup; what was written cannot start a server',
      })
    const entries: ManifestEntry[] = []
    await this.readEach((entry) => entries.push(entry))
    const places = new Map(plan.tablespaces.map(({ oid, to }) => [`pg_tblspc/${oid}`, to]))
    const expected = new Set<string>()
    for (const { path: listed, size, checksum } of entries) {
      const path = isMade(listed) ? (originalName(listed) ?? listed) : listed
      expected.add(path)
      const written = await factsOf(placeOf(path, plan.dataDirectory, places))
      if (!written) throw refuse(`${path} is missing`)
      if (isMade(listed)) continue
      if (written.size !== size) throw refuse(`${path} has ${written.size} bytes instead of ${size}`)
      if (checksum !== undefined && written.sha256 !== checksum) throw refuse(`${path} has a wrong SHA-256`)
    }
    // The manifest of what was put together is written at the same time.
    expected.add('backup_manifest')
    for await (const path of filesBelow(plan)) {
      if (!expected.has(path) && !path.startsWith('pg_wal/')) throw refuse(`${path} is in no manifest`)
    }
  }

  /** Reads it again, a file at a time. @throws PgrecallError `damaged` */
  async readEach(onEntry: (entry: ManifestEntry) => void): Promise<void> {
    const reader = new ManifestReader(nameFromBytes, onEntry)
    for await (const piece of this.#plain()) this.#explained(() => reader.push(piece))
    this.#explained(() => reader.finish())
  }

  async *#plain(): AsyncIterable<Buffer> {
    const sum = new ObjectSum(isSealed(this.#key))
    const onStored = (chunk: Buffer) => sum.push(chunk)
    const content = await readContent(this.#repository, this.#key, { onStored })
    if (!content) throw this.#damaged(new Error('it is missing'))
    try {
      yield* decode(methodOf(this.#object.name), content)
      if (!isAsRecorded(this.#object, sum.end())) throw new Error('its SHA-256 is wrong')
    } catch (error) {
      throw error instanceof PgrecallError ? error : this.#damaged(error)
    }
  }

  #explained(work: () => void): void {
    try {
      work()
    } catch (error) {
      throw this.#damaged(error)
    }
  }

  #damaged(cause: unknown): PgrecallError {
    return new PgrecallError(
      'damaged',
      `the manifest of the backup, ${this.#key}, is damaged: ${reasonOf(cause)}`,
      { hint: 'restore from another repository or from another backup', cause },
    )
  }
}

/** Where a file of the manifest was written. */
function placeOf(path: string, dataDirectory: string, places: ReadonlyMap<string, string>): string {
  if (path === 'global/pg_control') return join(dataDirectory, CONTROL_ASIDE)
  const space = /^pg_tblspc\/\d+/.exec(path)?.[0]
  const place = space && places.get(space)
  return place ? join(place, path.slice(space.length)) : join(dataDirectory, path)
}

async function factsOf(path: string): Promise<{ size: number; sha256: string } | undefined> {
  const facts = await lstat(fsPath(path)).catch(() => undefined)
  if (!facts?.isFile()) return undefined
  const handle = await open(fsPath(path), 'r')
  const sum = createHash('sha256')
  for await (const piece of handle.createReadStream({ highWaterMark: 1024 * 1024 })) sum.update(piece)
  return { size: facts.size, sha256: sum.digest('hex') }
}

/** The files that were written, as the manifest calls them. Servers of several versions can share a tablespace. */
async function* filesBelow({ backup, dataDirectory, tablespaces }: RestorePlan): AsyncGenerator<string> {
  for await (const path of walk(dataDirectory, (name) => name !== MARKER && name !== 'lost+found')) {
    yield path === CONTROL_ASIDE ? 'global/pg_control' : path
  }
  const ours = `PG_${Math.floor(backup.postgres.version / 10_000)}_`
  for (const { oid, to } of tablespaces) {
    for await (const path of walk(to, (name) => name.startsWith(ours))) yield `pg_tblspc/${oid}/${path}`
  }
}

/** @param isMeant says which of the entries of the root itself count */
async function* walk(root: string, isMeant: (name: string) => boolean, folder = ''): AsyncGenerator<string> {
  for (const entry of await readdir(fsPath(join(root, folder)), {
    encoding: 'buffer',
    withFileTypes: true,
  })) {
    const name = nameFromBytes(entry.name)
    if (folder === '' && !isMeant(name)) continue
    const path = join(folder, name)
    if (entry.isDirectory()) yield* walk(root, isMeant, path)
    else if (entry.isFile()) yield path
  }
}
