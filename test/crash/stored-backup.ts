import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { encodeRecord } from '../../src/catalog/record-file.ts'
import type { Lab } from '../lab/lab.ts'
import { giveToLabUser } from '../lab/user.ts'
import { backupFolder, idsOf, readRecord, type StoredRecord, sha256 } from './repository.ts'

/** A backup as it lies in the repository, to be damaged or forged, and mended. */
export class StoredBackup {
  readonly folder: string
  readonly record: StoredRecord
  readonly #originals: ReadonlyMap<string, Buffer>

  private constructor(folder: string, record: StoredRecord, originals: ReadonlyMap<string, Buffer>) {
    this.folder = folder
    this.record = record
    this.#originals = originals
  }

  static async newest(lab: Lab): Promise<StoredBackup> {
    const id = (await idsOf(lab)).at(-1)!
    const folder = backupFolder(lab, id)
    const originals = new Map<string, Buffer>()
    for (const name of await readdir(folder)) originals.set(name, await readFile(join(folder, name)))
    return new StoredBackup(folder, await readRecord(lab, id), originals)
  }

  /** The names of the shards of one group: `base`, `wal`, or a tablespace's oid. */
  shards(group: string): string[] {
    return this.record.objects
      .filter((object) => object.kind === 'shard' && object.group === group)
      .map(({ name }) => name)
  }

  /** The oid of its one tablespace. */
  get tablespace(): string {
    return this.record.objects.find(({ group }) => /^\d+$/.test(group ?? ''))!.group!
  }

  original(name: string): Buffer {
    return Buffer.from(this.#originals.get(name)!)
  }

  async write(name: string, bytes: Uint8Array): Promise<void> {
    await writeFile(join(this.folder, name), bytes, { mode: 0o600 })
    await giveToLabUser(join(this.folder, name))
  }

  async remove(name: string): Promise<void> {
    await rm(join(this.folder, name))
  }

  async flip(name: string, at: number): Promise<void> {
    const bytes = this.original(name)
    bytes[at]! ^= 1 << (at % 8)
    await this.write(name, bytes)
  }

  /** Everything as it was. */
  async mend(): Promise<void> {
    for (const [name, bytes] of this.#originals) await this.write(name, bytes)
  }

  /**
   * Puts members in front of a shard's own, and makes all sums fit: what somebody can do who may write to the
   * repository.
   */
  async forge(shard: string, members: ForgedMember[]): Promise<void> {
    const tar = zstdDecompressSync(this.original(shard))
    const forged = zstdCompressSync(Buffer.concat([...members.map(tarMember), tar]))
    const manifest = 'backup_manifest.zst'
    const text = zstdDecompressSync(this.original(manifest)).toString('utf8')
    const stored = zstdCompressSync(manifestWith(text, members))
    await this.write(shard, forged)
    await this.write(manifest, stored)
    const { sha256: _sum, ...record } = structuredClone(this.record) as StoredRecord & { sha256?: string }
    for (const object of record.objects) {
      const bytes = { [shard]: forged, [manifest]: stored }[object.name]
      if (bytes) Object.assign(object, { bytes: bytes.length, sha256: sha256(bytes) })
    }
    await this.write('backup.json', encodeRecord(record))
  }
}

/** A member of a tar archive that no honest writer makes. */
export interface ForgedMember {
  name: string
  /** The type flag of the format: `0` a file, `1` a hard link, `2` a symbolic link, `5` a directory. */
  flag?: string
  content?: string
  link?: string
  /** The field that is put in front of the name. */
  prefix?: string
  /** A name in an extended header, which goes over the other. */
  extendedName?: string
}

function tarMember({ name, flag = '0', content = '', link = '', ...more }: ForgedMember): Buffer {
  const { extendedName, prefix = '' } = more
  const extended = extendedName === undefined ? [] : [extendedHeader(extendedName)]
  const header = Buffer.alloc(512)
  const fields: [number, string][] = [
    [0, name],
    [100, '0000600\0'],
    [108, '0000000\0'],
    [116, '0000000\0'],
    [124, `${content.length.toString(8).padStart(11, '0')}\0`],
    [136, '00000000000\0'],
    [148, '        '],
    [156, flag],
    [157, link],
    [257, 'ustar\x0000'],
    [345, prefix],
  ]
  for (const [at, text] of fields) header.write(text, at, 'latin1')
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return Buffer.concat([...extended, header, padded(content)])
}

function extendedHeader(name: string): Buffer {
  const rest = ` path=${name}\n`
  const record = `${rest.length + 2}${rest}`
  return tarMember({ name: 'PaxHeader', flag: 'x', content: record })
}

function padded(content: string): Buffer {
  const blocks = Buffer.alloc(Math.ceil(content.length / 512) * 512)
  blocks.write(content, 'latin1')
  return blocks
}

/** The manifest with a line for each forged file, and its own sum made to fit. */
function manifestWith(manifest: string, members: ForgedMember[]): Buffer {
  const lines = members.map(({ name, prefix, extendedName, content = '' }) => {
    const path = extendedName ?? (prefix ? `${prefix}/${name}` : name)
    const facts = {
      Path: path,
      Size: content.length,
      'Last-Modified': '2026-01-01 00:00:00 GMT',
      'Checksum-Algorithm': 'SHA256',
      Checksum: sha256(Buffer.from(content)),
    }
    return `{ ${JSON.stringify(facts).slice(1, -1).replaceAll('":', '": ').replaceAll(',"', ', "')} },\n`
  })
  const body = manifest.replace('"Files": [\n', `"Files": [\n${lines.join('')}`)
  const end = body.lastIndexOf('"Manifest-Checksum"')
  const summed = body.slice(0, end)
  return Buffer.from(`${summed}"Manifest-Checksum": "${sha256(Buffer.from(summed))}"}\n`)
}
