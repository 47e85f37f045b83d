import { createHash } from 'node:crypto'
import { beforeEach, describe, expect, test } from 'vitest'
import { nameToBytes } from '../../src/archive/file-name.ts'
import { FRAME_BYTES } from '../../src/archive/shard-writer.ts'
import { padding, TAR_END, type TarMember, TarReader, tarHeader } from '../../src/archive/tar.ts'
import type { StoredShard } from '../../src/backup/shard.ts'
import { type IntakeOptions, takeIn } from '../../src/backup/stream-intake.ts'
import { readShardIndex } from '../../src/catalog/shard-index.ts'
import type { BackupPart } from '../../src/postgres/base-backup.ts'
import { encodeIncrementalHeader } from '../../src/postgres/incremental-file.ts'
import { writeManifest } from '../../src/postgres/manifest.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'
import { randomFrom } from '../random.ts'
import { plainStoreIn } from './opened.ts'

const LABEL = `START WAL LOCATION: 0/2000028 (file 000000030000000000000002)
CHECKPOINT LOCATION: 0/2000060
BACKUP METHOD: streamed
BACKUP FROM: primary
START TIMELINE: 3
`
const STOP = { lsn: 0x2000100n, timeline: 3 }
const SEGMENT = 'pg_wal/000000030000000000000002'

type Content = Buffer | 'folder' | 'link'

/** A cluster's data directory as a server sends it. */
const CLUSTER: [string, Content][] = [
  ['backup_label', Buffer.from(LABEL)],
  ['tablespace_map', Buffer.from('16384 /space\n')],
  ['base', 'folder'],
  ['base/1', 'folder'],
  ['base/1/1259', Buffer.alloc(20_000, 'a')],
  ['base/1/empty', Buffer.alloc(0)],
  ['base/1/large', Buffer.alloc(2 * FRAME_BYTES + 4321, 'large')],
  ['pg_wal', 'folder'],
  ['pg_tblspc', 'folder'],
  ['pg_tblspc/16384', 'link'],
  ['global', 'folder'],
  ['global/pg_control', Buffer.alloc(8192, 'c')],
  [SEGMENT, Buffer.alloc(30_000, 'w')],
  ['pg_wal/archive_status/000000030000000000000002.done', Buffer.alloc(0)],
]
const SPACE: [string, Content][] = [
  ['PG_15_202209061', 'folder'],
  ['PG_15_202209061/5', Buffer.alloc(9000, 's')],
]

function tar(members: readonly [string, Content][]): Buffer {
  const blocks = members.map(([path, content]) => {
    const size = typeof content === 'string' ? 0 : content.length
    const type = content === 'folder' ? 'directory' : content === 'link' ? 'symlink' : 'file'
    const link = content === 'link' ? { linkTarget: '/space' } : {}
    const member: TarMember = {
      path,
      type,
      size,
      mode: 0o600,
      mtime: 1_700_000_000,
      uid: 26,
      gid: 27,
      ...link,
    }
    const bytes = typeof content === 'string' ? Buffer.alloc(0) : content
    return Buffer.concat([tarHeader(member), bytes, Buffer.alloc(padding(size))])
  })
  return Buffer.concat([...blocks, TAR_END])
}

async function manifestOf(
  base: readonly [string, Content][],
  space: readonly [string, Content][] = [],
): Promise<Buffer> {
  const files = [...base, ...space.map(([path, content]) => [`pg_tblspc/16384/${path}`, content] as const)]
    .filter(([path, content]) => typeof content !== 'string' && path !== SEGMENT)
    .map(([path, content]) => ({
      path,
      size: content.length,
      modifiedMs: 0,
      sha256: createHash('sha256').update(content).digest('hex'),
    }))
  const ranges = [
    { timeline: 3, start: 0x2000028n, end: STOP.lsn },
    { timeline: 2, start: 0x1000000n, end: 0x2000028n },
  ]
  const pieces = writeManifest({ systemIdentifier: '1', majorVersion: 15 }, files, ranges, nameToBytes)
  return Buffer.concat(await Array.fromAsync(pieces))
}

/** Hands an archive out in pieces of random sizes. */
function* inPieces(archive: Buffer, seed = 1): Generator<BackupPart> {
  const random = randomFrom(seed)
  for (let at = 0; at < archive.length; ) {
    const bytes = archive.subarray(at, at + 1 + Math.floor(random() ** 4 * 300_000))
    at += bytes.length
    yield { kind: 'data', bytes }
  }
}

async function* protocol(base = CLUSTER, space = SPACE, manifest?: Buffer): AsyncGenerator<BackupPart> {
  yield { kind: 'start', start: { lsn: 0x2000028n, timeline: 3 } }
  yield { kind: 'archive', tablespaceOid: '16384' }
  yield* inPieces(tar(space))
  yield { kind: 'archive', tablespaceOid: undefined }
  yield* inPieces(tar(base), 2)
  if (manifest) yield { kind: 'manifest', bytes: manifest }
  yield { kind: 'end', stop: STOP }
}

async function* program(archive: Buffer): AsyncGenerator<BackupPart> {
  yield { kind: 'archive', tablespaceOid: undefined }
  yield* inPieces(archive)
}

let scratch: Scratch
let storage: LocalStorage
const shards: StoredShard[] = []

beforeEach(async () => {
  scratch = await Scratch.create('intake')
  storage = new LocalStorage(`${scratch.path}/repository`)
  await storage.create()
  shards.length = 0
  return () => scratch[Symbol.asyncDispose]()
})

function receive(parts: AsyncIterable<BackupPart>, options: Partial<IntakeOptions> = {}) {
  return takeIn(parts, {
    store: plainStoreIn(storage, 'backup/'),
    codec: { method: 'none' },
    shardBytes: 1024 * 1024,
    shardFiles: 50_000,
    relations: undefined,
    buffer: Buffer.alloc(FRAME_BYTES),
    observe: () => undefined,
    onProgress: () => {},
    onShard: (shard) => shards.push(shard),
    onStart: () => {},
    onControl: () => {},
    signal: new AbortController().signal,
    ...options,
  })
}

const sumOf = (content: Content) =>
  typeof content === 'string' ? content : createHash('sha256').update(content).digest('hex')
const sumsOf = (members: readonly [string, Content][]) =>
  Object.fromEntries(members.map(([path, content]) => [path, sumOf(content)]))

/** What lies in the shards of a group, by path: the sum of the content, or `folder`. */
async function stored(group: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const { name } of shards.filter((shard) => shard.group === group)) {
    const reader = new TarReader((member) => {
      const pieces: Buffer[] = []
      return {
        write: (bytes) => pieces.push(Buffer.from(bytes)),
        end: () => {
          found[member.path] = sumOf(member.type === 'directory' ? 'folder' : Buffer.concat(pieces))
        },
      }
    })
    for await (const chunk of (await storage.get(`backup/${name}`))!) reader.push(chunk)
    reader.finish()
  }
  return found
}

describe('a base backup', () => {
  test('goes into shards of its groups, without what is not for them', async () => {
    const intake = await receive(protocol(CLUSTER, SPACE, await manifestOf(CLUSTER, SPACE)))
    expect(intake).toMatchObject({
      label: LABEL,
      start: { start: 0x2000028n, timeline: 3, walFile: '000000030000000000000002', fromStandby: false },
      stop: STOP,
      owner: { uid: 26, gid: 27 },
      control: Buffer.alloc(8192, 'c'),
    })
    const left = /^(?:backup_label|tablespace_map|global\/pg_control|pg_wal\/.*|pg_tblspc\/.*)$/
    expect(await stored('base')).toEqual(sumsOf(CLUSTER.filter(([path]) => !left.test(path))))
    expect(await stored('16384')).toEqual(sumsOf(SPACE))
    expect(await stored('wal')).toEqual(sumsOf([[SEGMENT, Buffer.alloc(30_000, 'w')]]))
    // One may be on its way to the disk when the next one is there.
    const names = shards.filter(({ group }) => group === 'base').map(({ name }) => name)
    expect(names.toSorted()).toEqual(['base.0001.tar', 'base.0002.tar'])
  })

  test('of the program has its manifest as a member, and its end in that', async () => {
    const manifest = await manifestOf(CLUSTER)
    const intake = await receive(program(tar([...CLUSTER, ['backup_manifest', manifest]])))
    expect(intake.stop).toEqual(STOP)
    expect(await stored('base')).not.toHaveProperty('backup_manifest')
  })

  test('that is incremental says what its files stand for, and is compared as it came', async () => {
    const header = encodeIncrementalHeader({ truncationBlocks: 9, blocks: Uint32Array.of(3, 4, 7) }, 8192)
    const content = Buffer.concat([header, Buffer.alloc(3 * 8192, 'p')])
    const incremental: [string, Content][] = CLUSTER.map(([path, was]) =>
      path === 'base/1/1259' ? ['base/1/INCREMENTAL.1259', content] : [path, was],
    )
    const seen: [string, number, number][] = []
    const observe = (_group: string, path: string) => ({
      take: (bytes: Buffer, position: number) => void seen.push([path, position, bytes.length]),
      end: () => ({}),
    })
    const relations = { blockBytes: 8192, relationSegmentBlocks: 131_072 }
    const parts = protocol(incremental, SPACE, await manifestOf(incremental, SPACE))
    const intake = await receive(parts, { relations, observe })
    expect(intake.changedBlocks).toBe(3)
    expect(seen.filter(([path, , length]) => path === 'base/1/1259' && length > 0)).toEqual([
      ['base/1/1259', 3 * 8192, 2 * 8192],
      ['base/1/1259', 7 * 8192, 8192],
    ])
    const [shard] = shards.filter(({ name }) => name === 'base.0001.tar')
    const index = await readShardIndex(
      plainRepository('local', storage),
      `backup/${shard!.index.local!.name}`,
    )
    const files = await Array.fromAsync(index!.files)
    expect(files.find(({ path }) => path === 'base/1/INCREMENTAL.1259')).toMatchObject({
      size: content.length,
      fileSize: 9 * 8192,
      sha256: sumOf(content),
    })
    expect(files.filter(({ fileSize }) => fileSize !== undefined)).toHaveLength(1)
  })

  test('is looked at on its way', async () => {
    const seen = new Map<string, string>()
    let bytes = 0
    let files = 0
    const observe = (group: string, path: string, start: bigint) => {
      expect(group).toMatch(/^(?:base|\d+)$/)
      expect(start).toBe(0x2000028n)
      const pieces: Buffer[] = []
      return {
        take: (piece: Buffer, position: number) => {
          expect(position).toBe(Buffer.concat(pieces).length)
          pieces.push(Buffer.from(piece))
        },
        end: () => {
          seen.set(path, createHash('sha256').update(Buffer.concat(pieces)).digest('hex'))
          return { lastLsn: '0/1' }
        },
      }
    }
    const onProgress = (more: number, done: number) => {
      bytes += more
      files += done
    }
    await receive(protocol(), { observe, onProgress })
    const repository = plainRepository('local', storage)
    const facts = []
    for (const { index } of shards.filter(({ group }) => group !== 'wal')) {
      for await (const file of (await readShardIndex(repository, `backup/${index.local!.name}`))!.files)
        facts.push(file)
    }
    expect(facts).toHaveLength(4)
    for (const { path, sha256, lastLsn } of facts) expect([seen.get(path), lastLsn]).toEqual([sha256, '0/1'])
    expect(files).toBe(5)
    expect(bytes).toBe(shards.reduce((sum, { fileBytes }) => sum + fileBytes, 0))
  })
})

describe('is refused', () => {
  const changed = CLUSTER.map(([path, content]): [string, Content] => [
    path,
    path === 'base/1/1259' ? Buffer.alloc(20_000, 'b') : content,
  ])

  test.each([
    ['a file that was changed on its way', changed, /base\/1\/1259 did not arrive as/],
    [
      'a file that did not arrive',
      CLUSTER.filter(([path]) => path !== 'base/1/empty'),
      /base\/1\/empty is in the/,
    ],
    [
      'a file too many',
      [...CLUSTER, ['stray', Buffer.from('x')]] as [string, Content][],
      /stray arrived, but is not/,
    ],
  ])('%s', async (_what, arriving, message) => {
    const parts = protocol(arriving, SPACE, await manifestOf(CLUSTER, SPACE))
    await expect(receive(parts)).rejects.toMatchObject({
      kind: 'damaged',
      message: expect.stringMatching(message),
    })
  })

  test('an archive that ends in the middle, wherever', async () => {
    const archive = tar(CLUSTER)
    for (const length of [100, 5 * 1024, FRAME_BYTES + 12345, archive.length - 1024]) {
      shards.length = 0
      const parts = program(archive.subarray(0, length))
      await expect(receive(parts)).rejects.toMatchObject({
        kind: 'failed',
        message: expect.stringMatching(/no whole/),
      })
    }
  })

  test('a backup without its label, its pg_control or its end', async () => {
    const without = (left: string) => protocol(CLUSTER.filter(([path]) => path !== left))
    await expect(receive(without('backup_label'))).rejects.toThrow(/without backup_label/)
    await expect(receive(without('global/pg_control'))).rejects.toThrow(/without global\/pg_control/)
    await expect(receive(program(tar(CLUSTER)))).rejects.toThrow(/where it ends/)
  })
})

describe('when the intake fails, the source is ended', () => {
  /** Says when it was ended. */
  async function* endless(ended: () => void): AsyncGenerator<BackupPart> {
    try {
      yield { kind: 'start', start: STOP }
      yield { kind: 'archive', tablespaceOid: undefined }
      yield { kind: 'data', bytes: tar([['first', Buffer.alloc(100)]]).subarray(0, -TAR_END.length) }
      const endlessFile = {
        path: 'endless',
        type: 'file',
        size: 2 ** 40,
        mode: 0o600,
        mtime: 0,
        uid: 0,
        gid: 0,
      } as const
      yield { kind: 'data', bytes: tarHeader(endlessFile) }
      for (;;) yield { kind: 'data', bytes: Buffer.alloc(1024 * 1024) }
    } finally {
      ended()
    }
  }

  test('because the repository is full', async () => {
    let ended = false
    const full = new Error('no space left')
    const failing = Object.assign(Object.create(storage), {
      put: async (_key: string, source: AsyncIterable<Buffer>) => {
        for await (const _frame of source) throw full
      },
    })
    const parts = endless(() => {
      ended = true
    })
    await expect(receive(parts, { store: plainStoreIn(failing, 'backup/') })).rejects.toBe(full)
    expect(ended).toBe(true)
  })

  test('by the signal', async () => {
    let ended = false
    const stop = new AbortController()
    const parts = endless(() => {
      ended = true
    })
    const onProgress = (bytes: number) => {
      if (bytes > 0) stop.abort(new Error('enough'))
    }
    await expect(receive(parts, { signal: stop.signal, onProgress })).rejects.toThrow('enough')
    expect(ended).toBe(true)
    expect(shards).toEqual([])
  })
})
