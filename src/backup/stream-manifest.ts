import { nameFromBytes } from '../archive/file-name.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { BackupEnd } from '../postgres/base-backup.ts'
import { isLeftOut } from '../postgres/data-directory.ts'
import { lsn } from '../postgres/lsn.ts'
import { type ManifestEntry, ManifestReader } from '../postgres/manifest-reader.ts'

const HINT = 'take the backup again; if it happens again, look for failing memory or disks on both hosts'

/** What has arrived of a cluster, by path: enough to tell whether it is what the server has sent. */
export class Arrivals {
  readonly #files = new Map<string, string>()

  /** @param path in the data directory @param sha256 hexadecimal */
  add(path: string, size: number, sha256: string): void {
    this.#files.set(path, fingerprint(size, sha256))
  }

  /**
   * Holds the server's manifest against what has arrived, once.
   * @throws PgrecallError `damaged` when a file is missing, changed on its way, or not the manifest's
   */
  compare(manifest: readonly Buffer[]): void {
    const files = this.#files
    readEntries(manifest, ({ path, size, algorithm, checksum }) => {
      if (isNotCompared(path)) return
      const arrived = files.get(path)
      files.delete(path)
      if (arrived === undefined) throw disagreement(`${path} is in the server's manifest, but did not arrive`)
      if (algorithm !== 'SHA256' || arrived !== fingerprint(size, checksum ?? ''))
        throw disagreement(`${path} did not arrive as the server's manifest has it`)
    })
    const [stray] = files.keys()
    if (stray !== undefined) throw disagreement(`${stray} arrived, but is not in the server's manifest`)
  }
}

/** Of what comes along with the WAL the manifest has only the archiver's marks. */
function isNotCompared(path: string): boolean {
  return path.startsWith('pg_wal/') || (path !== 'backup_label' && isForServerOnly(path))
}

/**
 * What a server sends although a copy must not have it: the signal file of a standby, and a map of tablespaces, which
 * comes even when there are none.
 * @param path in the data directory
 */
export function isForServerOnly(path: string): boolean {
  return !path.includes('/') && isLeftOut('', path, true)
}

/** A half of the sum, in a quarter of its digits' room: a cluster may have a million files. */
function fingerprint(size: number, sha256: string): string {
  return `${size}:${Buffer.from(sha256.slice(0, 32), 'hex').toString('latin1')}`
}

function readEntries(manifest: readonly Buffer[], onEntry: (entry: ManifestEntry) => void): void {
  try {
    const reader = new ManifestReader(nameFromBytes, onEntry)
    for (const piece of manifest) reader.push(piece)
    reader.finish()
  } catch (error) {
    if (error instanceof PgrecallError) throw error
    throw disagreement(`the server's manifest cannot be read: ${reasonOf(error)}`)
  }
}

function disagreement(sentence: string): PgrecallError {
  return new PgrecallError('damaged', sentence, { hint: HINT })
}

/**
 * Where the backup ends, by its manifest: a server that follows another one over a change of timelines lists several
 * ranges, the newest one first.
 * @see AddWALInfoToBackupManifest in src/backend/backup/backup_manifest.c
 */
export function endInManifest(manifest: readonly Buffer[]): BackupEnd | undefined {
  if (manifest.length === 0) return undefined
  const tail = Buffer.concat(manifest.slice(-2))
  const end = tail.toString('latin1', Math.max(0, tail.lastIndexOf('"WAL-Ranges"')))
  const [, timeline, position] = /"Timeline": (\d+),.*"End-LSN": "([0-9A-F]+\/[0-9A-F]+)"/.exec(end) ?? []
  if (timeline === undefined || position === undefined)
    throw disagreement("the server's manifest does not say where the backup ends")
  return { lsn: lsn(position), timeline: Number(timeline) }
}
