import { randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import {
  type Codec,
  codecSuffix,
  compressFrame,
  decode,
  decodeCommand,
  decompressFrame,
  formatCodec,
  measureFrame,
  methodOf,
  parseCodec,
  releaseMemory,
} from '../../src/archive/codec.ts'
import { has, pipeThrough } from './programs.ts'

const ZSTD: Codec = { method: 'zstd', level: 1 }
const GZIP: Codec = { method: 'gzip', level: 6 }
const PLAIN = [
  Buffer.alloc(0),
  Buffer.from('x'),
  Buffer.alloc(4 * 1024 * 1024, 'compressible '),
  randomBytes(300_000),
  Buffer.from('the last one'),
]

describe('a codec as text', () => {
  test.each([
    ['zstd', { method: 'zstd', level: 1 }, 'zstd:1'],
    ['zstd:19', { method: 'zstd', level: 19 }, 'zstd:19'],
    ['gzip', { method: 'gzip', level: 6 }, 'gzip:6'],
    ['gzip:9', { method: 'gzip', level: 9 }, 'gzip:9'],
    ['none', { method: 'none' }, 'none'],
  ] as const)('%s', (text, codec, full) => {
    expect(parseCodec(text)).toEqual(codec)
    expect(formatCodec(codec)).toBe(full)
    expect(parseCodec(full)).toEqual(codec)
  })

  test.each([
    ['zstd:0', 'the level of zstd goes from 1 to 19, not 0'],
    ['zstd:20', 'the level of zstd goes from 1 to 19, not 20'],
    ['gzip:10', 'the level of gzip goes from 1 to 9, not 10'],
    ['lz4', '"lz4" is no compression; use zstd:N, gzip:N or none'],
    ['zstd:', '"zstd:" is no compression; use zstd:N, gzip:N or none'],
    ['none:1', '"none:1" is no compression; use zstd:N, gzip:N or none'],
    ['', '"" is no compression; use zstd:N, gzip:N or none'],
  ])('%j is refused with what is possible', (text, sentence) => {
    expect(parseCodec(text)).toBe(sentence)
  })

  test.each([ZSTD, GZIP, { method: 'none' } as Codec])('an object name tells how to decode: %o', (codec) => {
    expect(methodOf(`base.0001.tar${codecSuffix(codec)}`)).toBe(codec.method)
  })
})

describe('frames', () => {
  test
    .runIf(has('zstd'))
    .each([ZSTD, { method: 'zstd', level: 19 } as Codec, GZIP, { method: 'gzip', level: 1 } as Codec])(
    'one after another are a valid stream for the standard program: %o',
    (codec) => {
      const name = codec.method
      const stored = Buffer.concat(PLAIN.map((plain) => compressFrame(codec, plain)))
      const [program, ...args] = decodeCommand(name).split(' ')
      expect(pipeThrough(program!, args, stored).equals(Buffer.concat(PLAIN))).toBe(true)
    },
  )

  test('carry a checksum and their size, as RFC 8878 has them', () => {
    const frame = compressFrame(ZSTD, PLAIN[2]!)
    expect(frame[4]! & 4).toBe(4)
    expect(frame[4]! >> 6).toBeGreaterThan(0)
  })

  test('are decoded one by one', () => {
    for (const plain of PLAIN) expect(decompressFrame(compressFrame(ZSTD, plain)).equals(plain)).toBe(true)
  })

  test('that nobody reads any more give back their memory, but not what is shared with others', () => {
    const large = decompressFrame(compressFrame(ZSTD, PLAIN[2]!))
    releaseMemory(large)
    expect(large.length).toBe(0)
    const small = decompressFrame(compressFrame(ZSTD, Buffer.from('small')))
    const neighbour = Buffer.from('neighbour')
    releaseMemory(small)
    releaseMemory(neighbour)
    expect(neighbour.toString()).toBe('neighbour')
  })

  test('that unpack to more than 64 MiB are refused, however small they are', () => {
    const bomb = compressFrame(ZSTD, Buffer.alloc(65 * 1024 * 1024))
    expect(bomb.length).toBeLessThan(100_000)
    expect(() => decompressFrame(bomb)).toThrow()
  })
})

describe.runIf(has('zstd'))('measureFrame', () => {
  const inputs = {
    empty: PLAIN[0]!,
    small: PLAIN[1]!,
    large: PLAIN[2]!.subarray(0, 500_000),
    random: PLAIN[3]!,
    zeros: Buffer.alloc(500_000),
  }
  const options = [
    '-1',
    '-19',
    '--ultra -22',
    '--fast=5',
    '--no-check',
    '--no-content-size',
    '--long=27',
    '--single-thread',
    '-T2 -B65536',
    '--no-check --no-content-size',
  ]

  test.each(options)('finds the end of what zstd %s writes', (option) => {
    // The highest level takes its time before it begins, however little it gets.
    const few = option.includes('ultra') ? { random: inputs.random } : inputs
    for (const [name, plain] of Object.entries(few)) {
      const frame = pipeThrough('zstd', [...option.split(' '), '-q', '-c'], plain)
      const behind = Buffer.concat([frame, frame, Buffer.from('behind')])
      expect(measureFrame(behind), name).toEqual({ bytes: frame.length, skippable: false })
      expect(measureFrame(frame.subarray(0, -1)), name).toBeUndefined()
    }
  })

  test('finds the end of our own frames, and of none of their beginnings', () => {
    const frame = compressFrame(ZSTD, Buffer.from('some text, some text, some text'))
    for (let length = 0; length < frame.length; length++) {
      expect(measureFrame(frame.subarray(0, length))).toBeUndefined()
    }
    expect(measureFrame(frame)).toEqual({ bytes: frame.length, skippable: false })
  })

  test.each([0, 15])('passes over a skippable frame of the kind %d', (kind) => {
    const frame = skippable(kind, Buffer.from('anything'))
    expect(measureFrame(Buffer.concat([frame, Buffer.from('more')]))).toEqual({ bytes: 16, skippable: true })
    expect(measureFrame(frame.subarray(0, -1))).toBeUndefined()
  })

  test('says that other bytes are no zstd data', () => {
    expect(() => measureFrame(Buffer.from('this is plain text'))).toThrow('no zstd data')
  })
})

describe('decode', () => {
  const streams: [Codec['method'], Buffer][] = [
    [
      'zstd',
      Buffer.concat([skippable(0, Buffer.from('head')), ...PLAIN.map((plain) => compressFrame(ZSTD, plain))]),
    ],
    ['gzip', Buffer.concat(PLAIN.map((plain) => compressFrame(GZIP, plain)))],
    ['none', Buffer.concat(PLAIN)],
  ]

  test.each(streams)(
    'of %s gives the plain bytes, in whatever pieces they arrive',
    async (method, stored) => {
      for (const pieceBytes of [stored.length, 1024 * 1024, 65_536, 9999]) {
        expect((await decoded(method, stored, pieceBytes)).equals(Buffer.concat(PLAIN))).toBe(true)
      }
    },
  )

  test.runIf(has('zstd'))('reads what the zstd program makes of several files', async () => {
    const stored = Buffer.concat(
      ['-1', '-19', '--no-check'].map((option) => pipeThrough('zstd', [option, '-q', '-c'], PLAIN[2]!)),
    )
    expect(
      (await decoded('zstd', stored, 100_000)).equals(Buffer.concat([PLAIN[2]!, PLAIN[2]!, PLAIN[2]!])),
    ).toBe(true)
  })

  test('takes pieces that are reused for the next one', async () => {
    for (const [method, stored] of streams.slice(0, 2)) {
      const buffer = Buffer.alloc(50_000)
      const source = async function* () {
        for (let at = 0; at < stored.length; at += buffer.length) {
          const copied = stored.copy(buffer, 0, at, at + buffer.length)
          yield buffer.subarray(0, copied)
          buffer.fill(0xff)
        }
      }
      expect((await gather(decode(method, source()))).equals(Buffer.concat(PLAIN))).toBe(true)
    }
  })

  describe.each(['zstd', 'gzip'] as const)('of %s', (method) => {
    const codec = { method, level: 1 } as Codec
    const frames = [Buffer.from('one one one one'), randomBytes(200), Buffer.from('three')].map((plain) =>
      compressFrame(codec, plain),
    )
    const stored = Buffer.concat(frames)
    const borders = [0, frames[0]!.length, frames[0]!.length + frames[1]!.length]

    test('that ends in the middle of a frame is an error, at every byte', async () => {
      for (let length = 1; length < stored.length; length++) {
        if (borders.includes(length)) continue
        await expect(decoded(method, stored.subarray(0, length), 7), `${length} bytes`).rejects.toThrow()
      }
    })

    test('with a flipped bit is an error, or gives the same bytes', async () => {
      const plain = await decoded(method, stored, 1000)
      for (let at = 0; at < stored.length; at++) {
        const damaged = Buffer.from(stored)
        damaged[at]! ^= 1 << (at % 8)
        const result = await decoded(method, damaged, 1000).catch(() => undefined)
        // Time, name flags and operating system of a gzip member say nothing about its content.
        if (result) expect(result.equals(plain), `byte ${at}`).toBe(true)
      }
    })

    test('with something else behind it is an error', async () => {
      await expect(
        decoded(method, Buffer.concat([stored, Buffer.from('something else')]), 9),
      ).rejects.toThrow()
    })

    test('throws what its source throws', async () => {
      const source = async function* () {
        yield stored
        throw new Error('the repository went away')
      }
      await expect(gather(decode(method, source()))).rejects.toThrow('the repository went away')
    })

    test('ends its source when nobody reads on', async () => {
      const { promise, resolve } = Promise.withResolvers<void>()
      const source = async function* () {
        try {
          for (;;) yield compressFrame(codec, randomBytes(1_000_000))
        } finally {
          resolve()
        }
      }
      for await (const piece of decode(method, source())) if (piece.length > 0) break
      await promise
    })
  })

  test('does not collect a frame that never ends', async () => {
    const head = compressFrame(ZSTD, randomBytes(200_000)).subarray(0, 9)
    let given = 0
    const endless = async function* () {
      yield head
      // Blocks of 128 KiB, none of them the last.
      const block = Buffer.concat([Buffer.from([0x00, 0x00, 0x10]), Buffer.alloc(0x20000)])
      for (; given < 300; given++) yield Buffer.concat(Array.from({ length: 8 }, () => block))
    }
    await expect(gather(decode('zstd', endless()))).rejects.toThrow('larger than any that pgrecall writes')
    expect(given).toBeLessThan(200)
  })
})

function skippable(kind: number, content: Buffer): Buffer {
  const head = Buffer.alloc(8)
  head.writeUInt32LE(0x184d2a50 + kind, 0)
  head.writeUInt32LE(content.length, 4)
  return Buffer.concat([head, content])
}

async function decoded(method: Codec['method'], stored: Buffer, pieceBytes: number): Promise<Buffer> {
  const pieces = async function* () {
    for (let at = 0; at < stored.length; at += pieceBytes) yield stored.subarray(at, at + pieceBytes)
  }
  return gather(decode(method, pieces()))
}

async function gather(pieces: AsyncIterable<Buffer>): Promise<Buffer> {
  const all: Buffer[] = []
  for await (const piece of pieces) all.push(Buffer.from(piece))
  return Buffer.concat(all)
}
