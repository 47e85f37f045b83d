import { createHash } from 'node:crypto'
import { formatLsn, type Lsn } from './lsn.ts'

/**
 * PostgreSQL's `backup_manifest`, written and read.
 * @see https://www.postgresql.org/docs/current/backup-manifest-format.html
 */
export interface ManifestFile {
  /** Relative to the data directory; files of a tablespace are below `pg_tblspc/<oid>/`. */
  path: string
  size: number
  /** Milliseconds since 1970. */
  modifiedMs: number
  /** SHA-256, hexadecimal. */
  sha256: string
}

export interface WalRange {
  timeline: number
  start: Lsn
  end: Lsn
}

export interface ManifestHead {
  /** Written into manifests of version 2, which servers from 17 know. */
  systemIdentifier: string
  majorVersion: number
}

const BATCH = 1000

/**
 * The text of a manifest, in pieces.
 * @param nameToBytes gives a path's bytes: a path that is not valid UTF-8 is written as `Encoded-Path`
 */
export async function* writeManifest(
  head: ManifestHead,
  files: Iterable<ManifestFile> | AsyncIterable<ManifestFile>,
  ranges: readonly WalRange[],
  nameToBytes: (path: string) => Buffer,
): AsyncGenerator<Buffer> {
  const sum = createHash('sha256')
  const emit = (text: string) => {
    const bytes = Buffer.from(text)
    sum.update(bytes)
    return bytes
  }
  const version = head.majorVersion >= 17 ? 2 : 1
  const identity = version === 2 ? `"System-Identifier": ${head.systemIdentifier},\n` : ''
  let text = `{ "PostgreSQL-Backup-Manifest-Version": ${version},\n${identity}"Files": [`
  let count = 0
  for await (const file of files) {
    text += `${count === 0 ? '' : ','}\n${fileLine(file, nameToBytes)}`
    if (++count % BATCH === 0) {
      yield emit(text)
      text = ''
    }
  }
  const walLines = ranges.map(
    (range) =>
      `{ "Timeline": ${range.timeline}, "Start-LSN": "${formatLsn(range.start)}", "End-LSN": "${formatLsn(range.end)}" }`,
  )
  yield emit(`${text}\n],\n"WAL-Ranges": [\n${walLines.join(',\n')}\n],\n`)
  yield Buffer.from(`"Manifest-Checksum": "${sum.digest('hex')}"}\n`)
}

function fileLine(file: ManifestFile, nameToBytes: (path: string) => Buffer): string {
  const path = file.path.isWellFormed()
    ? `"Path": ${JSON.stringify(file.path)}`
    : `"Encoded-Path": "${nameToBytes(file.path).toString('hex')}"`
  const modified = new Date(file.modifiedMs)
    .toISOString()
    .replace('T', ' ')
    .replace(/\.\d+Z$/, ' GMT')
  return `{ ${path}, "Size": ${file.size}, "Last-Modified": "${modified}", "Checksum-Algorithm": "SHA256", "Checksum": "${file.sha256}" }`
}
