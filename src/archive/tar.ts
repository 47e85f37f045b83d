import { nameFromBytes, nameToBytes } from './file-name.ts'

/**
 * The tar format as POSIX.1-2001 has it (pax): ustar headers, and an extended header where a name or a size does
 * not fit. Written by hand because a worker fills its buffers with it and reads back, synchronously, without
 * a stream in between, and because what is read is never trusted.
 * @see https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13
 */
export const TAR_BLOCK = 512

export interface TarMember {
  /** Relative, `/`-separated, without a trailing slash. */
  path: string
  type: 'file' | 'directory' | 'symlink'
  /** Bytes of content; 0 unless a file. */
  size: number
  /** Permission bits. */
  mode: number
  /** Seconds since 1970. */
  mtime: number
  uid: number
  gid: number
  linkTarget?: string
}

/** What eleven and seven octal digits can say: 8 GiB, and ids as they were before there were containers. */
const MAX_SIZE = 0o77777777777
const MAX_ID = 0o7777777

const TYPE_FLAGS = { file: '0', directory: '5', symlink: '2' } as const

/** The header blocks of a member, with an extended header in front when one is needed. */
export function tarHeader(member: TarMember): Buffer {
  const name = nameToBytes(member.type === 'directory' ? `${member.path}/` : member.path)
  const link = nameToBytes(member.linkTarget ?? '')
  const records: [string, Buffer][] = []
  if (name.length > 100) records.push(['path', name])
  if (link.length > 100) records.push(['linkpath', link])
  if (member.size > MAX_SIZE) records.push(['size', Buffer.from(String(member.size))])
  for (const key of ['uid', 'gid'] as const) {
    if (member[key] > MAX_ID) records.push([key, Buffer.from(String(member[key]))])
  }
  const header = block(member, name.subarray(0, 100), link.subarray(0, 100), TYPE_FLAGS[member.type])
  if (records.length === 0) return header
  const extended = Buffer.concat(records.map(([key, value]) => paxRecord(key, value)))
  const facts = { size: extended.length, mode: 0o600, mtime: member.mtime, uid: member.uid, gid: member.gid }
  return Buffer.concat([
    block(facts, Buffer.from('PaxHeader'), Buffer.alloc(0), 'x'),
    extended,
    Buffer.alloc(padding(extended.length)),
    header,
  ])
}

/** How many zero bytes follow `size` bytes of content up to the next block. */
export function padding(size: number): number {
  return (TAR_BLOCK - (size % TAR_BLOCK)) % TAR_BLOCK
}

/** The two zero blocks that end an archive. */
export const TAR_END = Buffer.alloc(2 * TAR_BLOCK)

function block(
  facts: Pick<TarMember, 'size' | 'mode' | 'mtime' | 'uid' | 'gid'>,
  name: Buffer,
  link: Buffer,
  flag: string,
): Buffer {
  const header = Buffer.alloc(TAR_BLOCK)
  const octal = (value: number, at: number, length: number) => {
    const digits = Math.max(0, Math.floor(value)).toString(8)
    // A value too large for its field stands in the extended header; zero here.
    header.write((digits.length < length ? digits : '0').padStart(length - 1, '0'), at, 'latin1')
  }
  name.copy(header, 0)
  octal(facts.mode, 100, 8)
  octal(facts.uid, 108, 8)
  octal(facts.gid, 116, 8)
  octal(facts.size, 124, 12)
  octal(facts.mtime, 136, 12)
  header.write('        ', 148, 'latin1')
  header.write(flag, 156, 'latin1')
  link.copy(header, 157)
  header.write('ustar\x0000', 257, 'latin1')
  let sum = 0
  for (const byte of header) sum += byte
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return header
}

/** `length key=value\n`, where the length counts itself. */
function paxRecord(key: string, value: Buffer): Buffer {
  const rest = ` ${key}=`.length + value.length + 1
  let length = rest + String(rest).length
  if (String(length).length !== String(rest).length) length = rest + String(length).length
  return Buffer.concat([Buffer.from(`${length} ${key}=`), value, Buffer.from('\n')])
}

/** What takes a member's content while an archive is read. */
export interface MemberSink {
  /** The next bytes; the buffer is only valid during the call. */
  write(bytes: Buffer): void
  end(): void
}

/**
 * Reads an archive that arrives in pieces of any size: `push` each piece, then `finish`.
 * @throws Error when the bytes are no tar archive, or it ends in the middle
 */
export class TarReader {
  readonly #onMember: (member: TarMember) => MemberSink | undefined
  readonly #header = Buffer.alloc(TAR_BLOCK)
  #headerBytes = 0
  #sink: MemberSink | undefined
  #contentLeft = 0
  #paddingLeft = 0
  #extended: Buffer[] | undefined
  #overrides: Map<string, Buffer> = new Map()
  #ended = false

  /** @param onMember says where the content goes; without a sink it is passed over */
  constructor(onMember: (member: TarMember) => MemberSink | undefined) {
    this.#onMember = onMember
  }

  push(chunk: Buffer): void {
    for (let at = 0; at < chunk.length; ) {
      if (this.#ended) {
        // A member header that became zeros would look like the end, and hide all that comes after it.
        if (chunk.subarray(at).some((byte) => byte !== 0)) throw new Error('there is more after the end mark')
        return
      }
      if (this.#contentLeft > 0) {
        const bytes = chunk.subarray(at, at + this.#contentLeft)
        this.#content(bytes)
        at += bytes.length
      } else if (this.#paddingLeft > 0) {
        const skip = Math.min(this.#paddingLeft, chunk.length - at)
        this.#paddingLeft -= skip
        at += skip
      } else {
        const copied = chunk.copy(this.#header, this.#headerBytes, at, at + TAR_BLOCK - this.#headerBytes)
        this.#headerBytes += copied
        at += copied
        if (this.#headerBytes === TAR_BLOCK) {
          this.#headerBytes = 0
          this.#begin()
        }
      }
    }
  }

  /** Checks that the archive was whole. */
  finish(): void {
    if (!this.#ended) throw new Error('the archive ends before its end mark')
  }

  #content(bytes: Buffer): void {
    this.#contentLeft -= bytes.length
    if (this.#extended) this.#extended.push(Buffer.from(bytes))
    else this.#sink?.write(bytes)
    if (this.#contentLeft > 0) return
    this.#endContent()
  }

  #endContent(): void {
    if (this.#extended) this.#overrides = parsePax(Buffer.concat(this.#extended))
    this.#extended = undefined
    this.#sink?.end()
    this.#sink = undefined
  }

  #begin(): void {
    const header = this.#header
    if (header.every((byte) => byte === 0)) {
      this.#ended = true
      return
    }
    let sum = 8 * 32
    for (let at = 0; at < TAR_BLOCK; at++) if (at < 148 || at >= 156) sum += header[at]!
    if (sum !== octalAt(header, 148, 8)) throw new Error('a member header is damaged (wrong checksum)')
    const flag = String.fromCharCode(header[156]!)
    const isExtension = flag === 'x' || flag === 'g'
    const size = isExtension ? octalAt(header, 124, 12) : this.#number('size', 124, 12)
    this.#contentLeft = size
    this.#paddingLeft = padding(size)
    if (isExtension && size > 1024 * 1024) throw new Error('an extended header is larger than 1 MiB')
    if (flag === 'x') this.#extended = []
    else if (flag !== 'g') {
      const member = this.#member(flag, size)
      this.#overrides = new Map()
      this.#sink = this.#onMember(member)
    }
    if (size === 0) this.#endContent()
  }

  /** A number of the member: from the extended header in front of it, or from its own. */
  #number(key: string, at: number, length: number): number {
    const override = this.#overrides.get(key)?.toString('latin1')
    return override === undefined ? numberAt(this.#header, at, length) : decimal(override)
  }

  #member(flag: string, size: number): TarMember {
    const header = this.#header
    const prefix =
      header.toString('latin1', 257, 263) === 'ustar\0' ? field(header, 345, 155) : Buffer.alloc(0)
    const short = field(header, 0, 100)
    const name =
      this.#overrides.get('path') ?? (prefix.length ? Buffer.concat([prefix, SLASH, short]) : short)
    const type =
      flag === '0' || flag === '\0'
        ? 'file'
        : flag === '5'
          ? 'directory'
          : flag === '2'
            ? 'symlink'
            : undefined
    const path = nameFromBytes(name).replace(/\/+$/, '')
    if (!type) throw new Error(`member "${path}" is of a kind that no PostgreSQL cluster holds ("${flag}")`)
    const link = this.#overrides.get('linkpath') ?? field(header, 157, 100)
    return {
      path,
      type,
      size,
      mode: octalAt(header, 100, 8) & 0o7777,
      mtime: octalAt(header, 136, 12),
      uid: this.#number('uid', 108, 8),
      gid: this.#number('gid', 116, 8),
      ...(type === 'symlink' && { linkTarget: nameFromBytes(link) }),
    }
  }
}

const SLASH = Buffer.from('/')

function field(header: Buffer, at: number, length: number): Buffer {
  const bytes = header.subarray(at, at + length)
  const end = bytes.indexOf(0)
  return end < 0 ? Buffer.from(bytes) : Buffer.from(bytes.subarray(0, end))
}

/** Octal digits; or, where those have no room, a binary number behind a first bit that is set (GNU, and PostgreSQL). */
function numberAt(header: Buffer, at: number, length: number): number {
  if ((header[at]! & 0x80) === 0) return octalAt(header, at, length)
  let value = header[at]! & 0x7f
  for (const byte of header.subarray(at + 1, at + length)) value = value * 256 + byte
  if (!Number.isSafeInteger(value)) throw new Error('a member header has an impossible number')
  return value
}

function octalAt(header: Buffer, at: number, length: number): number {
  const text = header
    .toString('latin1', at, at + length)
    .replace(/[\0 ]+$/, '')
    .trim()
  const value = text === '' ? 0 : /^[0-7]+$/.test(text) ? Number.parseInt(text, 8) : Number.NaN
  if (!Number.isSafeInteger(value)) throw new Error('a member header has an impossible number')
  return value
}

function decimal(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new Error('an extended header has an impossible number')
  return Number(text)
}

function parsePax(bytes: Buffer): Map<string, Buffer> {
  const records = new Map<string, Buffer>()
  for (let at = 0; at < bytes.length; ) {
    const space = bytes.indexOf(0x20, at)
    const length = Number(bytes.toString('latin1', at, space))
    const equals = bytes.indexOf(0x3d, space)
    if (space < 0 || !(length > 0) || equals < 0 || at + length > bytes.length || equals > at + length) {
      throw new Error('an extended header is damaged')
    }
    records.set(bytes.toString('latin1', space + 1, equals), bytes.subarray(equals + 1, at + length - 1))
    at += length
  }
  return records
}
