import { type Codec, codecSuffix, compressFrame, decode, methodOf } from '../archive/codec.ts'
import { nameFromBytes, nameToBytes } from '../archive/file-name.ts'
import { PgrecallError } from '../errors.ts'
import { type ReadableRepository, readContent } from './sealed-object.ts'

/** A file as it is in a shard. */
export interface CopiedFile {
  /** Relative to its group's root; of one whose changed blocks only are there, with `INCREMENTAL.` before its name. */
  path: string
  /** Bytes of the member. */
  size: number
  /** Bytes of the file itself, where the member holds its changed blocks only. */
  fileSize?: number
  modifiedMs: number
  /** SHA-256 of the content, hexadecimal. */
  sha256: string
  /** Where the content begins in the shard's tar stream. */
  offset: number
  /** The highest LSN of its pages, where its pages were looked at. */
  lastLsn?: string
}

/** What is known of a shard once it is stored, wherever that is. */
export interface ShardFacts {
  /** `base`, a tablespace's oid, or `wal`. */
  group: string
  plainBytes: number
  members: number
  files: number
  /** Plain bytes of the files' contents. */
  fileBytes: number
}

/** The first line of an index: the shard as it is stored in the repository in which the index lies. */
export interface ShardHead extends ShardFacts {
  shard: string
  /** As in StoredObject. */
  bytes: number
  sha256: string
  header?: { bytes: number; sha256: string }
  /** The same for all shards that one run has stored, and the repositories that it stored them in, by name. */
  run: string
  repositories: string[]
  codec: string
  /** Plain bytes of a frame (the last one is shorter), and where each frame begins in the object as it is decrypted. */
  frameBytes: number
  frames: number[]
  /** The folders among the members. */
  folders?: { path: string; mode: number }[]
  /** Files whose size and time will not tell if they change after the copy, or that have wrong pages. */
  unsettled: number
}

const TEXT_BYTES = 1024 * 1024

/** `base.0001.tar.zst` has `base.0001.index.jsonl.zst`. */
export function indexName(shard: string, codec: Codec): string {
  return `${shard.replace(/\.tar(?:\.\w+)?$/, '')}.index.jsonl${codecSuffix(codec)}`
}

/**
 * `<shard>.index.jsonl`: what lies where in a shard, a line for the shard and one for each file. Stored after its
 * shard, so where there is an index there is a whole shard; a backup that was interrupted goes on from that.
 * The lines of the files are compressed as they come: a shard of many small files holds little memory.
 */
export class ShardIndex {
  readonly #codec: Codec
  readonly #frames: Buffer[] = []
  #text = ''
  files = 0
  fileBytes = 0

  constructor(codec: Codec) {
    this.#codec = codec
  }

  add({ path, ...facts }: CopiedFile): void {
    const name = path.isWellFormed() ? { path } : { encodedPath: nameToBytes(path).toString('hex') }
    this.#text += `${JSON.stringify({ ...name, ...facts })}\n`
    this.files++
    this.fileBytes += facts.size
    if (this.#text.length >= TEXT_BYTES) this.#flush()
  }

  /** The whole index, in frames. May be asked for several times, with other heads. */
  finish(head: ShardHead): Buffer[] {
    if (this.#text !== '') this.#flush()
    return [this.#frame(`${JSON.stringify(head)}\n`), ...this.#frames]
  }

  #flush(): void {
    this.#frames.push(this.#frame(this.#text))
    this.#text = ''
  }

  #frame(text: string): Buffer {
    return compressFrame(this.#codec, Buffer.from(text))
  }
}

/**
 * Reads an index, a line at a time.
 * @param onStored hears of its stored bytes as they are read
 * @returns the head and the files, of which the reading ends with `close` or with the last one; undefined when there is none
 * @throws PgrecallError `damaged`, and `key` where it is encrypted and no key fits
 */
export async function readShardIndex(
  repository: ReadableRepository,
  key: string,
  onStored?: (chunk: Buffer) => void,
): Promise<{ head: ShardHead; files: AsyncIterable<CopiedFile>; close(): Promise<void> } | undefined> {
  const { storage } = repository
  const content = await readContent(repository, key, onStored && { onStored })
  if (!content) return undefined
  const lines = linesOf(decode(methodOf(key), content))
  const parse = (line: string) => {
    try {
      return JSON.parse(line)
    } catch (cause) {
      throw new PgrecallError('damaged', `${storage.location}/${key} is no index of a shard`, { cause })
    }
  }
  const first = await lines.next()
  const head = parse(first.done ? '' : first.value) as ShardHead
  const close = async () => void (await lines.return(undefined))
  const files = async function* () {
    try {
      for (let line = await lines.next(); !line.done; line = await lines.next()) {
        const { encodedPath, ...facts } = parse(line.value)
        yield encodedPath === undefined
          ? (facts as CopiedFile)
          : { ...facts, path: nameFromBytes(Buffer.from(encodedPath, 'hex')) }
      }
    } finally {
      await close()
    }
  }
  return { head, files: files(), close }
}

async function* linesOf(chunks: AsyncIterable<Buffer>): AsyncGenerator<string, undefined> {
  let rest = Buffer.alloc(0)
  for await (const chunk of chunks) {
    const bytes = Buffer.concat([rest, chunk])
    let at = 0
    for (let end = bytes.indexOf(0x0a); end >= 0; end = bytes.indexOf(0x0a, at)) {
      yield bytes.toString('utf8', at, end)
      at = end + 1
    }
    rest = bytes.subarray(at)
  }
  if (rest.length > 0) throw new Error('the text ends in the middle of a line')
}
