import { createHash } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { compressFrame } from '../../src/archive/codec.ts'
import { padding, TAR_END, tarHeader } from '../../src/archive/tar.ts'
import type { BackupObject } from '../../src/catalog/backup-record.ts'
import { claimIdentity } from '../../src/catalog/identity.ts'
import { walKey } from '../../src/catalog/layout.ts'
import { putObject } from '../../src/catalog/put-object.ts'
import type { Repository } from '../../src/catalog/repository.ts'
import { type ShardHead, ShardIndex } from '../../src/catalog/shard-index.ts'
import { encodeIncrementalHeader } from '../../src/postgres/incremental-file.ts'
import { parseLsn } from '../../src/postgres/lsn.ts'
import { segmentName, segmentNumber } from '../../src/postgres/wal-file.ts'
import { readObject } from '../../src/storage/storage.ts'
import type { ShardJob } from '../../src/verification/read-job.ts'
import { verifyShard } from '../../src/verification/verify-shard.ts'
import { verifyWal } from '../../src/verification/verify-wal.ts'
import { pushWalFile } from '../../src/wal/push.ts'
import { localStorage } from '../copy/sample.ts'
import { plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'
import { randomPage } from '../postgres/pages.ts'
import { SEGMENT, START, WalWriter } from '../postgres/wal-writer.ts'
import { randomFrom } from '../random.ts'

const CODEC = { method: 'zstd', level: 1 } as const
const FOLDER = 'main/backups/20260101T000000Z-full/'
const BEFORE = parseLsn('0/1000')!
const DURING = parseLsn('0/3000')!

let scratch: Scratch
let repository: Repository
const random = randomFrom(20_261_122)
const nothing = () => {}

beforeEach(async () => {
  scratch = await Scratch.create('decode')
  repository = plainRepository('here', await localStorage(scratch, 'here'))
})
afterEach(() => scratch[Symbol.asyncDispose]())

const page = (block: number, lsn = BEFORE) => randomPage(random, block, lsn, 8192)
const spoilt = (bytes: Buffer, at: number) => {
  bytes[at]! ^= 1
  return bytes
}
const sumOf = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

/** A file of blocks 7 and 9, which may be another than it says. */
function increment(...pages: Buffer[]): Buffer {
  const header = { truncationBlocks: 10, blocks: Uint32Array.of(7, 9) }
  return Buffer.concat([encodeIncrementalHeader(header, 8192), ...pages])
}

interface Member {
  path: string
  bytes: Buffer
  /** What the index says, where that is something else; nothing where it says nothing. */
  listed?: Partial<{ path: string; size: number; sha256: string }> | null
}

const sound = (): Member[] => [
  { path: 'PG_VERSION', bytes: Buffer.from('17\n') },
  { path: 'base/5/16384', bytes: Buffer.concat([page(0), page(1)]) },
  { path: 'base/5/INCREMENTAL.16385.1', bytes: increment(page(131_079), page(131_081)) },
]

/** Stores a shard with an index, both with right sums. */
async function stored(
  members: readonly Member[],
  facts: Partial<ShardJob['backup']> = {},
): Promise<ShardJob> {
  const index = new ShardIndex(CODEC)
  const parts: Buffer[] = []
  for (const { path, bytes, listed } of members) {
    const member = { path, type: 'file', size: bytes.length, mode: 0o600, mtime: 1, uid: 0, gid: 0 } as const
    parts.push(tarHeader(member), bytes, Buffer.alloc(padding(bytes.length)))
    const file = { path, size: bytes.length, sha256: sumOf(bytes), modifiedMs: 1, offset: 512 }
    if (listed !== null) index.add({ ...file, ...listed })
  }
  const put = (name: string, ...frames: Buffer[]) =>
    putObject(repository.storage, FOLDER, name, frames, { sealer: undefined })
  const shard = await put('base.0001.tar.zst', compressFrame(CODEC, Buffer.concat([...parts, TAR_END])))
  const list = await put('base.0001.index.jsonl.zst', ...index.finish({} as ShardHead))
  const object: BackupObject = { ...shard, kind: 'shard', group: 'base' }
  return {
    ...{ kind: 'shard', key: FOLDER + shard.name, object, index: { key: FOLDER + list.name, object: list } },
    backup: {
      ...{ startLsn: '0/2000', stopLsn: '0/4000', stopFile: '000000010000000000000001' },
      ...{ systemIdentifier: '42', hasChecksums: true, damaged: [], ...facts },
    },
  }
}

describe('a shard whose stored bytes are right', () => {
  test('is sound with its files, pages and increments', async () => {
    const { faults, files } = await verifyShard(repository, await stored(sound()), nothing)
    expect(faults).toEqual([])
    expect(files!.count).toBe(3)
  })

  const torn = (lsn: bigint) => ({ path: 'base/5/16384', bytes: spoilt(page(0, lsn), 5000) })
  const lone = (bytes: Buffer): Member => ({ path: 'base/5/INCREMENTAL.16385.1', bytes })

  test.each<[string, () => Member[], Partial<ShardJob['backup']>, RegExp | undefined]>([
    ['a wrong page', () => [torn(BEFORE)], {}, /base\/5\/16384 .*checksum of block 0 is wrong/],
    ['one that replay mends', () => [torn(DURING)], {}, undefined],
    ['one that was known', () => [torn(BEFORE)], { damaged: ['base/5/16384'] }, undefined],
    ['one without checksums', () => [torn(BEFORE)], { hasChecksums: false }, undefined],
    [
      'a block of another place',
      () => [lone(increment(page(7), page(131_081)))],
      {},
      /block 131079 is wrong/,
    ],
    ['fewer blocks than it says', () => [lone(increment(page(131_079)))], {}, /1 blocks instead of 2/],
    ['no increment', () => [lone(Buffer.alloc(9000))], {}, /does not begin as an incremental file/],
    [
      'another sum',
      () => [{ ...sound()[0]!, listed: { sha256: sumOf(Buffer.alloc(1)) } }],
      {},
      /another SHA-256/,
    ],
    ['another size', () => [{ ...sound()[0]!, listed: { size: 2 } }], {}, /3 bytes, and in its index 2/],
    ['another name', () => [{ ...sound()[0]!, listed: { path: 'PG' } }], {}, /where its index has PG$/],
    [
      'more than is listed',
      () => [{ ...sound()[0]!, listed: null }],
      {},
      /where its index has no more files/,
    ],
  ])('with %s', async (_what, members, facts, reason) => {
    const { faults } = await verifyShard(repository, await stored(members(), facts), nothing)
    expect(faults.every(({ isContent }) => isContent)).toBe(true)
    expect(faults.map((fault) => fault.reason)).toEqual(reason ? [expect.stringMatching(reason)] : [])
  })

  test('and of which a listed file is not there', async () => {
    const whole = await stored(sound())
    const listed = await readObject(repository.storage, whole.index!.key)
    const job = await stored(sound().slice(0, 1))
    await repository.storage.put(job.index!.key, listed!)
    const { faults } = await verifyShard(repository, job, nothing)
    expect(faults).toMatchObject([
      { reason: expect.stringMatching(/16384, which its index lists, is not in it/) },
    ])
  })
})

describe('WAL whose stored bytes are right', () => {
  const first = segmentNumber(START, SEGMENT)

  /** Three segments full of records, of which one byte may be another. @returns where the record is that has it */
  async function archive(spoil: number | undefined): Promise<void> {
    const wal = new WalWriter(3)
    while (wal.at < 3 * SEGMENT - 16_384) wal.add({ data: Buffer.alloc(3000, 7) })
    if (spoil !== undefined) spoilt(wal.bytes, spoil)
    await claimIdentity(repository.storage, 'main', { systemIdentifier: '42', walSegmentBytes: SEGMENT })
    for (const index of [0, 1, 2]) {
      const path = join(scratch.path, segmentName(1, first + BigInt(index), SEGMENT))
      await writeFile(path, wal.segment(index))
      await pushWalFile({ path, cluster: 'main', repositories: [repository], level: 1 })
    }
  }

  const read = (decode: boolean, goesOn = false, last = first + 2n) =>
    verifyWal(
      repository,
      {
        ...{ kind: 'wal', cluster: 'main', timeline: 1, first, last, segmentBytes: SEGMENT, decode, goesOn },
        systemIdentifier: '42',
      },
      nothing,
    )
  const keyOf = (index: number) => walKey('main', segmentName(1, first + BigInt(index), SEGMENT))

  test('is sound, and may end within the last segment only', async () => {
    await archive(undefined)
    expect(await read(true)).toMatchObject({ objects: 3, faults: [] })
    expect((await read(true, true)).faults).toMatchObject([{ key: keyOf(2), isContent: true }])
  })

  test('is damaged where a record has a wrong CRC, which only decoding finds', async () => {
    await archive(SEGMENT + 500_000)
    expect((await read(false)).faults).toEqual([])
    expect((await read(true)).faults).toEqual([
      { key: keyOf(1), reason: expect.stringContaining('its records end at'), isContent: true },
    ])
  })

  test('and so it is in the record that goes over to what another thread reads', async () => {
    await archive(SEGMENT + 60)
    expect((await read(true, true, first)).faults).toMatchObject([
      { key: keyOf(1), reason: expect.stringContaining('does not end in it') },
    ])
  })

  test('belongs to the cluster', async () => {
    await archive(undefined)
    const job = {
      kind: 'wal',
      cluster: 'main',
      timeline: 1,
      first,
      last: first,
      segmentBytes: SEGMENT,
    } as const
    const { faults } = await verifyWal(
      repository,
      { ...job, decode: true, goesOn: true, systemIdentifier: '43' },
      nothing,
    )
    expect(faults).toMatchObject([{ reason: expect.stringContaining('it comes from another cluster') }])
  })
})
