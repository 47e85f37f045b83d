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
  /** SHA-256, hexadecimal; a manifest may leave it out. */
  sha256: string | undefined
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

/** The text of a manifest as it grows: `begin`, `add` as often as there is something, `end`. The pieces follow each other. */
export class ManifestText {
  readonly #nameToBytes: (path: string) => Buffer
  readonly #sum = createHash('sha256')
  #files = 0

  /** @param nameToBytes gives a path's bytes: a path that is not valid UTF-8 is written as `Encoded-Path` */
  constructor(nameToBytes: (path: string) => Buffer) {
    this.#nameToBytes = nameToBytes
  }

  begin(head: ManifestHead): Buffer {
    const version = head.majorVersion >= 17 ? 2 : 1
    const identity = version === 2 ? `"System-Identifier": ${head.systemIdentifier},\n` : ''
    return this.#summed(`{ "PostgreSQL-Backup-Manifest-Version": ${version},\n${identity}"Files": [`)
  }

  add(files: readonly ManifestFile[]): Buffer {
    const lines = files.map(
      (file) => `${this.#files++ === 0 ? '' : ','}\n${fileLine(file, this.#nameToBytes)}`,
    )
    return this.#summed(lines.join(''))
  }

  end(ranges: readonly WalRange[]): Buffer {
    const lines = ranges.map(
      ({ timeline, start, end }) =>
        `{ "Timeline": ${timeline}, "Start-LSN": "${formatLsn(start)}", "End-LSN": "${formatLsn(end)}" }`,
    )
    const text = this.#summed(`\n],\n"WAL-Ranges": [\n${lines.join(',\n')}\n],\n`)
    return Buffer.concat([text, Buffer.from(`"Manifest-Checksum": "${this.#sum.digest('hex')}"}\n`)])
  }

  #summed(text: string): Buffer {
    const bytes = Buffer.from(text)
    this.#sum.update(bytes)
    return bytes
  }
}

const BATCH = 1000

/** The text of a manifest, in pieces. @param nameToBytes as for `ManifestText` */
export async function* writeManifest(
  head: ManifestHead,
  files: Iterable<ManifestFile> | AsyncIterable<ManifestFile>,
  ranges: readonly WalRange[],
  nameToBytes: (path: string) => Buffer,
): AsyncGenerator<Buffer> {
  const text = new ManifestText(nameToBytes)
  yield text.begin(head)
  let batch: ManifestFile[] = []
  for await (const file of files) {
    if (batch.push(file) < BATCH) continue
    yield text.add(batch)
    batch = []
  }
  yield text.add(batch)
  yield text.end(ranges)
}

function fileLine(file: ManifestFile, nameToBytes: (path: string) => Buffer): string {
  const path = file.path.isWellFormed()
    ? `"Path": ${JSON.stringify(file.path)}`
    : `"Encoded-Path": "${nameToBytes(file.path).toString('hex')}"`
  const modified = new Date(file.modifiedMs)
    .toISOString()
    .replace('T', ' ')
    .replace(/\.\d+Z$/, ' GMT')
  const sum =
    file.sha256 === undefined ? '' : `, "Checksum-Algorithm": "SHA256", "Checksum": "${file.sha256}"`
  return `{ ${path}, "Size": ${file.size}, "Last-Modified": "${modified}"${sum} }`
}
