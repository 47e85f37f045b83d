import { closeSync, constants, fchownSync, fsyncSync, openSync, writeSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { nameToBytes } from '../archive/file-name.ts'
import type { BackupRecord } from '../catalog/backup-record.ts'
import { lsn } from '../postgres/lsn.ts'
import { type ManifestFile, ManifestText } from '../postgres/manifest.ts'
import type { Owner } from './data-directory.ts'

const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW

/**
 * The `backup_manifest` of a cluster that was put together from several backups, which no repository holds: it is
 * written while the files are. What it lists of a million files has hundreds of megabytes and goes to the disk at once.
 */
export class RestoredManifest implements Disposable {
  readonly #backup: BackupRecord
  readonly #text = new ManifestText(nameToBytes)
  readonly #file: number

  /** @param backup the newest of them, up to whose end the WAL has to be replayed */
  static async create(path: string, backup: BackupRecord, owner: Owner): Promise<RestoredManifest> {
    await rm(path, { force: true })
    return new RestoredManifest(path, backup, owner)
  }

  private constructor(path: string, backup: BackupRecord, owner: Owner) {
    this.#backup = backup
    this.#file = openSync(path, NEW_FILE, 0o600)
    if (owner) fchownSync(this.#file, owner.uid, owner.gid)
    const { systemIdentifier, postgres } = backup
    this.#write(this.#text.begin({ systemIdentifier, majorVersion: Math.floor(postgres.version / 10_000) }))
  }

  add(files: readonly ManifestFile[]): void {
    this.#write(this.#text.add(files))
  }

  /** Ends it, durably. */
  finish(): void {
    const { method, timeline, start, stop } = this.#backup
    // A cluster that was shut down replays nothing.
    const ranges = method === 'cold' ? [] : [{ timeline, start: lsn(start.lsn), end: lsn(stop.lsn) }]
    this.#write(this.#text.end(ranges))
    fsyncSync(this.#file)
  }

  [Symbol.dispose](): void {
    closeSync(this.#file)
  }

  #write(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) at += writeSync(this.#file, bytes, at)
  }
}
