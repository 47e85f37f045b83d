import { createCipheriv, hkdfSync, randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { newIdentity, Opener, readSealHeader, type Seal, Sealer } from '../../src/archive/age.ts'
import { decryptWholePayload } from '../../src/archive/age-payload.ts'
import { PgrecallError } from '../../src/errors.ts'
import { Scratch } from '../lab/scratch.ts'
import { randomFrom } from '../random.ts'
import { AGE_PROGRAMS, ageDecrypt, ageEncrypt, HAS_AGE, keygen } from './age-program.ts'

const KIB = 1024
const CHUNK = 64 * KIB
const SIZES = [
  0,
  1,
  CHUNK - 1,
  CHUNK,
  CHUNK + 1,
  2 * CHUNK,
  16 * CHUNK - 1,
  16 * CHUNK,
  16 * CHUNK + 1,
  5_000_000,
]
const NOTES = [
  { name: 'wal', args: ['00ff', '9'.repeat(64), '16777216'] },
  { name: 'history', args: ['1', '0/3000000', '2', '0/5000060'] },
]

let scratch: Scratch
let key: Awaited<ReturnType<typeof newIdentity>>
let other: typeof key
beforeAll(async () => {
  scratch = await Scratch.create('age')
  key = await newIdentity()
  other = await newIdentity()
})
afterAll(() => scratch[Symbol.asyncDispose]())

describe('what is sealed is opened', () => {
  test.each(SIZES)('%d bytes, in whatever pieces they come', async (bytes) => {
    const plain = randomBytes(bytes)
    for (const seed of [1, 2, 3]) {
      const object = await sealed(await new Sealer([key.recipient]).seal(NOTES), pieces(plain, seed))
      expect((await opened(object, seed + 10)).equals(plain), `seed ${seed}`).toBe(true)
      expect((await openerOf(key.identity).openWhole(object)).equals(plain)).toBe(true)
    }
    const seal = await new Sealer([key.recipient]).seal()
    const whole = Buffer.concat([seal.header, seal.encryptWhole([...pieces(plain, 4)])])
    expect((await opened(whole, 5)).equals(plain)).toBe(true)
    expect(whole.length).toBe(seal.header.length + 16 + bytes + 16 * Math.max(1, Math.ceil(bytes / CHUNK)))
  })

  test('a byte at a time', async () => {
    const plain = randomBytes(300)
    const object = await sealed(await new Sealer([key.recipient]).seal(NOTES), ones(plain))
    expect((await gather(openerOf(key.identity).open(ones(object)))).equals(plain)).toBe(true)
  })

  test('with pieces whose memory is used again for the next one', async () => {
    const plain = randomBytes(3_000_000)
    const object = await sealed(
      await new Sealer([key.recipient]).seal(),
      throughOneBuffer(plain, Buffer.from(new SharedArrayBuffer(200_001))),
    )
    const stored = throughOneBuffer(object, Buffer.alloc(100_001))
    expect((await gather(openerOf(key.identity).open(stored))).equals(plain)).toBe(true)
  })

  test('in pieces that suit a disk and a network', async () => {
    const seal = await new Sealer([key.recipient]).seal()
    const sizes: number[] = []
    for await (const piece of seal.encrypt(pieces(randomBytes(9_000_000), 6))) sizes.push(piece.length)
    expect(sizes.slice(0, -1).every((bytes) => bytes >= 256 * KIB && bytes <= 4 * KIB * KIB)).toBe(true)
  })

  test('by each of several recipients, a post-quantum one too', async () => {
    const hybrid = await newIdentity({ postQuantum: true })
    expect(hybrid.recipient).toMatch(/^age1pq1/)
    const sealer = new Sealer([key.recipient, hybrid.recipient, other.recipient])
    const object = await sealed(await sealer.seal(), [Buffer.from('for three')])
    expect(readSealHeader(object)?.recipients).toBe(3)
    for (const { identity } of [key, other, hybrid]) {
      expect((await openerOf(identity).openWhole(object)).toString()).toBe('for three')
    }
  })

  test('with a fresh key for every object, and a fresh nonce for every content', async () => {
    const sealer = new Sealer([key.recipient])
    const seals = [await sealer.seal(), await sealer.seal()]
    const stored = [...seals, seals[0]!].map((seal) => seal.encryptWhole([Buffer.alloc(100)]).toString('hex'))
    expect(new Set(stored).size).toBe(3)
    expect(seals[0]!.header.equals(seals[1]!.header)).toBe(false)
  })

  test('the source is ended when nobody reads on', async () => {
    const { promise, resolve } = Promise.withResolvers<void>()
    const endless = async function* () {
      try {
        yield* ones(await sealed(await new Sealer([key.recipient]).seal(), [randomBytes(200_000)]))
      } finally {
        resolve()
      }
    }
    for await (const piece of openerOf(key.identity).open(endless())) if (piece.length > 0) break
    await promise
  })
})

describe.runIf(HAS_AGE).each(AGE_PROGRAMS)('with the program %s', (program) => {
  let keys: Awaited<ReturnType<typeof keygen>>[]
  beforeAll(async () => {
    keys = [await keygen(scratch.path, `${program}-1.txt`), await keygen(scratch.path, `${program}-2.txt`)]
  })

  test.each(SIZES)(
    'it decrypts what we seal, whatever the notes say, and we open what it encrypts: %d bytes',
    async (bytes) => {
      const plain = randomBytes(bytes)
      const recipients = keys.map(({ recipient }) => recipient)
      const object = await sealed(await new Sealer(recipients).seal(NOTES), pieces(plain, 7))
      for (const { file } of keys) expect(ageDecrypt(file, object, program).equals(plain)).toBe(true)
      const theirs = ageEncrypt(recipients, plain, program)
      expect(readSealHeader(theirs)).toMatchObject({ recipients: 2, notes: [] })
      for (const { identity } of keys) {
        expect((await gather(openerOf(identity).open(toStream(pieces(theirs, 8))))).equals(plain)).toBe(true)
      }
    },
  )

  test('it refuses what was changed in a note', async () => {
    const object = await sealed(await new Sealer([keys[0]!.recipient]).seal(NOTES), [Buffer.from('x')])
    object[object.indexOf('16777216')]! ^= 1
    expect(() => ageDecrypt(keys[0]!.file, object, program)).toThrow()
  })

  test('a new header makes the same payload readable by the new key, and not by the old one', async () => {
    const [from, to] = keys as [(typeof keys)[0], (typeof keys)[0]]
    const plain = randomBytes(200_000)
    const seal = await new Sealer([from.recipient]).seal(NOTES)
    const payload = seal.encryptWhole([plain])
    const header = await openerOf(from.identity).rewrap(seal.header, new Sealer([to.recipient]))
    const object = Buffer.concat([header, payload])
    expect(ageDecrypt(to.file, object, program).equals(plain)).toBe(true)
    expect(() => ageDecrypt(from.file, object, program)).toThrow()
    expect(readSealHeader(header)).toEqual({
      headerBytes: header.length,
      recipients: 1,
      notes: [...NOTES, { name: 'recipients', args: [new Sealer([to.recipient]).fingerprint] }],
    })
    await expect(openerOf(from.identity).openWhole(object)).rejects.toMatchObject({ kind: 'key' })
    expect((await openerOf(to.identity).openWhole(object)).equals(plain)).toBe(true)
  })
})

describe('what is not as it was written', () => {
  test('is refused, whichever byte of an object is another one', async () => {
    const object = await sealed(await new Sealer([key.recipient]).seal(NOTES), [
      Buffer.from('a small object'),
    ])
    for (let at = 0; at < object.length; at++) {
      const changed = Buffer.from(object)
      changed[at]! ^= 1 << (at % 8)
      const error = await failureOf(opened(changed, at))
      expect(error?.kind, `byte ${at}`).toMatch(/^(damaged|key)$/)
      expect(await failureOf(openerOf(key.identity).openWhole(changed)), `byte ${at}`).toEqual(error)
    }
  })

  test('is refused at every length but its own', async () => {
    const object = await sealed(await new Sealer([key.recipient]).seal(), [Buffer.from('a small object')])
    for (let bytes = 0; bytes < object.length; bytes++) {
      expect(await failureOf(opened(object.subarray(0, bytes), bytes)), `${bytes}`).toMatchObject({
        kind: 'damaged',
      })
      expect(await failureOf(openerOf(key.identity).openWhole(object.subarray(0, bytes)))).toMatchObject({
        kind: 'damaged',
      })
    }
  })

  test.each([
    ['without its last chunk', 'cut off', (payload: Buffer) => payload.subarray(0, 16 + 2 * (CHUNK + 16))],
    ['in the middle of a chunk', 'does not fit', (payload: Buffer) => payload.subarray(0, 100_000)],
    ['in the middle of a tag', 'cut off', (payload: Buffer) => payload.subarray(0, 16 + CHUNK + 16 + 7)],
    ['with bytes behind it', 'does not fit', (payload: Buffer) => Buffer.concat([payload, Buffer.from('x')])],
    ['with its chunks in another order', 'does not fit', (payload: Buffer) => swapped(payload)],
  ])('%s', async (_how, sentence, change) => {
    const seal = await new Sealer([key.recipient]).seal()
    const object = Buffer.concat([seal.header, change(seal.encryptWhole([randomBytes(2 * CHUNK + 1000)]))])
    for (const error of [
      await failureOf(opened(object, 3)),
      await failureOf(openerOf(key.identity).openWhole(object)),
    ]) {
      expect(error).toMatchObject({ kind: 'damaged', message: expect.stringContaining(sentence) })
    }
  })

  test('with something behind a last chunk that is full', async () => {
    const seal = await new Sealer([key.recipient]).seal()
    const object = Buffer.concat([seal.header, seal.encryptWhole([randomBytes(CHUNK)]), Buffer.alloc(100)])
    expect(await failureOf(opened(object, 3))).toMatchObject({
      kind: 'damaged',
      message: 'an encrypted object is damaged: bytes follow behind its end',
    })
  })

  test('has an empty chunk at its end, which only an empty file has', () => {
    const fileKey = randomBytes(16)
    expect(
      decryptWholePayload(fileKey, payloadOf(fileKey, [randomBytes(CHUNK), randomBytes(1)])).length,
    ).toBe(CHUNK + 1)
    expect(decryptWholePayload(fileKey, payloadOf(fileKey, [Buffer.alloc(0)])).length).toBe(0)
    expect(() =>
      decryptWholePayload(fileKey, payloadOf(fileKey, [randomBytes(CHUNK), Buffer.alloc(0)])),
    ).toThrow('an encrypted object is damaged: its last chunk is empty')
  })

  test('gives no plain byte of the chunk that is damaged, and all those before it', async () => {
    const plain = randomBytes(5 * CHUNK)
    const seal = await new Sealer([key.recipient]).seal()
    const object = Buffer.concat([seal.header, seal.encryptWhole([plain])])
    object[seal.header.length + 16 + 2 * (CHUNK + 16) + 5]! ^= 1
    const given: Buffer[] = []
    const reading = async () => {
      for await (const piece of openerOf(key.identity).open(toStream(pieces(object, 9))))
        given.push(Buffer.from(piece))
    }
    expect(await failureOf(reading())).toMatchObject({ kind: 'damaged' })
    expect(Buffer.concat(given).equals(plain.subarray(0, 2 * CHUNK))).toBe(true)
  })

  test('is no encrypted object at all: that shows with the first bytes', async () => {
    let given = 0
    const endless = async function* () {
      for (;;) {
        given++
        yield Buffer.alloc(1000)
      }
    }
    const sentence = 'what should be an encrypted object is none: it does not begin with a header of age'
    expect(await failureOf(gather(openerOf(key.identity).open(endless())))).toMatchObject({
      kind: 'damaged',
      message: sentence,
    })
    expect(given).toBe(1)
    expect(await failureOf(openerOf(key.identity).openWhole(Buffer.from('plain text')))).toMatchObject({
      kind: 'damaged',
    })
  })

  test('is a header without end: no more of it is collected than a header has', async () => {
    let given = 0
    const endless = async function* () {
      yield Buffer.from('age-encryption.org/v1\n')
      for (; ; given++) yield Buffer.from(`-> X25519 ${'A'.repeat(43)}\n${'A'.repeat(43)}\n`)
    }
    expect(await failureOf(gather(openerOf(key.identity).open(endless())))).toMatchObject({ kind: 'damaged' })
    expect(given).toBeLessThan(200)
  })

  test('throws what its source throws', async () => {
    const object = await sealed(await new Sealer([key.recipient]).seal(), [randomBytes(1_000_000)])
    const source = async function* () {
      yield object.subarray(0, 500_000)
      throw new Error('the repository went away')
    }
    await expect(gather(openerOf(key.identity).open(source()))).rejects.toThrow('the repository went away')
  })
})

describe('a header tells for which recipients it is', () => {
  const headerOf = async (sealer: Sealer) => readSealHeader((await sealer.seal(NOTES)).header)!
  const sealerFor = (...pairs: { recipient: string }[]) => new Sealer(pairs.map(({ recipient }) => recipient))

  test('by sixteen digits that are the same in whatever order, and say nothing else', async () => {
    expect(sealerFor(key, other).fingerprint).toMatch(/^[0-9a-f]{16}$/)
    const { notes } = await headerOf(sealerFor(key, other))
    expect(notes).toEqual([...NOTES, { name: 'recipients', args: [sealerFor(key, other).fingerprint] }])
    const header = await headerOf(sealerFor(key, other))
    expect(sealerFor(other, key).hasSealed(header)).toBe(true)
    expect(sealerFor(other, key, other).hasSealed(header)).toBe(true)
    for (const sealer of [sealerFor(key), sealerFor(other), sealerFor(key, other, await newIdentity())])
      expect(sealer.hasSealed(header)).toBe(false)
  })

  test('once, also after several new headers', async () => {
    const [one, two] = [sealerFor(key), sealerFor(other)]
    const first = (await one.seal(NOTES)).header
    const second = await openerOf(key.identity).rewrap(first, two)
    const third = readSealHeader(await openerOf(other.identity).rewrap(second, one))!
    expect(two.hasSealed(readSealHeader(second)!)).toBe(true)
    expect([one.hasSealed(third), two.hasSealed(third)]).toEqual([true, false])
    expect(third.notes).toHaveLength(NOTES.length + 1)
  })

  test('and one that was made by another program says nothing', () => {
    const header = { headerBytes: 0, recipients: 1, notes: [] }
    expect(new Sealer([]).hasSealed(header)).toBe(false)
  })
})

describe('keys', () => {
  test('of which none fits: one sentence, and what to do', async () => {
    const seal = await new Sealer([key.recipient, (await newIdentity()).recipient]).seal()
    const object = await sealed(seal, [Buffer.from('x')])
    const error = await failureOf(openerOf(other.identity).openWhole(object))
    expect(error).toMatchObject({
      kind: 'key',
      message: 'an object is encrypted to 2 public keys, and no secret key of this host fits',
      hint: expect.stringContaining('identityFile'),
    })
  })

  test('are loaded once, however many objects are opened at once, and not before', async () => {
    let loads = 0
    const opener = new Opener(async () => {
      loads++
      return [key.identity]
    })
    const object = await sealed(await new Sealer([key.recipient]).seal(), [Buffer.from('x')])
    expect(loads).toBe(0)
    await Promise.all(Array.from({ length: 5 }, () => opener.openWhole(object)))
    expect(await opener.identities()).toEqual([key.identity])
    expect(loads).toBe(1)
  })

  test('that this host does not have: what loads them says so, and an empty list is none too', async () => {
    const missing = new PgrecallError('key', 'this host has none')
    const object = await sealed(await new Sealer([key.recipient]).seal(), [Buffer.from('x')])
    const opener = new Opener(async () => {
      throw missing
    })
    expect(await failureOf(opener.openWhole(object))).toBe(missing)
    expect(await failureOf(new Opener(async () => []).openWhole(object))).toMatchObject({
      kind: 'key',
      message: 'an object is encrypted, and this host has no secret key',
    })
    expect((await opener.with([key.identity]).openWhole(object)).toString()).toBe('x')
    expect(await opener.with([key.identity]).identities()).toEqual([key.identity])
    expect(await openerOf(other.identity).with([key.identity]).identities()).toEqual([
      key.identity,
      other.identity,
    ])
  })

  test('that are mistyped are refused: a public one by its name, a secret one without it', async () => {
    const wrong = `${key.recipient.slice(0, -1)}${key.recipient.endsWith('q') ? 'p' : 'q'}`
    expect(await failureOf(new Sealer([other.recipient, wrong]).seal())).toMatchObject({
      kind: 'config',
      message: `"${wrong}" is no public key of age, perhaps mistyped`,
    })
    const object = await sealed(await new Sealer([key.recipient]).seal(), [Buffer.from('x')])
    const error = await failureOf(openerOf(`${key.identity}X`).openWhole(object))
    expect(error).toMatchObject({ kind: 'key' })
    expect(JSON.stringify([error?.message, error?.hint])).not.toContain(key.identity)
  })

  test('are needed, and must fit into a header', async () => {
    expect(await failureOf(new Sealer([]).seal())).toMatchObject({ kind: 'config' })
    const many = Array.from({ length: 200 }, () => key.recipient)
    expect(await failureOf(new Sealer(many).seal())).toMatchObject({ kind: 'config' })
    const ten = await Promise.all(Array.from({ length: 10 }, () => newIdentity({ postQuantum: true })))
    const seal = await new Sealer(ten.map(({ recipient }) => recipient)).seal(NOTES)
    expect(readSealHeader(seal.header)?.recipients).toBe(10)
  })
})

const openerOf = (identity: string) => new Opener(async () => [identity])

async function sealed(seal: Seal, plain: AsyncIterable<Buffer> | Iterable<Buffer>): Promise<Buffer> {
  return Buffer.concat([seal.header, await gather(seal.encrypt(plain))])
}

const opened = (object: Buffer, seed: number) =>
  gather(openerOf(key.identity).open(toStream(pieces(object, seed))))

/** Copies each piece, which is valid only until the next one. */
async function gather(all: AsyncIterable<Buffer>): Promise<Buffer> {
  const copies: Buffer[] = []
  for await (const piece of all) copies.push(Buffer.from(piece))
  return Buffer.concat(copies)
}

async function failureOf(promise: Promise<unknown>): Promise<PgrecallError | undefined> {
  const error = await promise.then(
    () => undefined,
    (reason) => reason,
  )
  if (error !== undefined) expect(error).toBeInstanceOf(PgrecallError)
  return error
}

/** Pieces of sizes that vary a lot, with empty ones among them. */
function* pieces(bytes: Buffer, seed: number): Generator<Buffer> {
  const random = randomFrom(seed)
  for (let at = 0; at < bytes.length; ) {
    const size = [0, 7, 1000, CHUNK, CHUNK + 16, 1_000_000][Math.floor(random() * 6)]!
    const length = random() < 0.5 ? size : Math.floor(random() * size)
    yield bytes.subarray(at, at + length)
    at += length
  }
}

async function* toStream(all: Iterable<Buffer>): AsyncGenerator<Buffer> {
  yield* all
}

async function* ones(bytes: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at++) yield bytes.subarray(at, at + 1)
}

async function* throughOneBuffer(bytes: Buffer, buffer: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += buffer.length) {
    const copied = bytes.copy(buffer, 0, at)
    yield buffer.subarray(0, copied)
    buffer.fill(0xff)
  }
}

function swapped(payload: Buffer): Buffer {
  const at = (chunk: number) => 16 + chunk * (CHUNK + 16)
  return Buffer.concat([
    payload.subarray(0, 16),
    payload.subarray(at(1), at(2)),
    payload.subarray(at(0), at(1)),
    payload.subarray(at(2)),
  ])
}

/** A payload as the specification has it, with chunks of any size. */
function payloadOf(fileKey: Buffer, chunks: Buffer[]): Buffer {
  const nonce = randomBytes(16)
  const key = Buffer.from(hkdfSync('sha256', fileKey, nonce, 'payload', 32))
  const sealed = chunks.flatMap((chunk, index) => {
    const chunkNonce = Buffer.from([...new Array(10).fill(0), index, index === chunks.length - 1 ? 1 : 0])
    const cipher = createCipheriv('chacha20-poly1305', key, chunkNonce, { authTagLength: 16 })
    return [cipher.update(chunk), cipher.final(), cipher.getAuthTag()]
  })
  return Buffer.concat([nonce, ...sealed])
}
