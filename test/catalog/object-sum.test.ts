import { createHash, randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { newIdentity, readSealHeader, SEAL_HEADER_READ_BYTES, Sealer } from '../../src/archive/age.ts'
import { isAsRecorded, ObjectSum } from '../../src/catalog/object-sum.ts'

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

function sumOf(object: Buffer, { isSealed = true, pieceBytes = object.length } = {}) {
  const sum = new ObjectSum(isSealed)
  for (let at = 0; at < object.length; at += pieceBytes) sum.push(object.subarray(at, at + pieceBytes))
  return sum.end()
}

async function sealed(content: Buffer, recipients = 1): Promise<{ header: Buffer; object: Buffer }> {
  const drawn = await Promise.all(Array.from({ length: recipients }, () => newIdentity()))
  const seal = await new Sealer(drawn.map(({ recipient }) => recipient)).seal()
  return { header: seal.header, object: Buffer.concat([seal.header, seal.encryptWhole([content])]) }
}

test('a plain object is summed up whole, also one that looks encrypted', async () => {
  const { object } = await sealed(randomBytes(1000))
  expect(sumOf(object, { isSealed: false })).toEqual({ bytes: object.length, sha256: sha256(object) })
})

test.each([1, 7, 64, 100_000])(
  'an encrypted one has a sum for its header and one for the rest: pieces of %i bytes',
  async (pieceBytes) => {
    const { header, object } = await sealed(randomBytes(5000), 3)
    expect(sumOf(object, { pieceBytes })).toEqual({
      bytes: object.length,
      sha256: sha256(object.subarray(header.length)),
      header: { bytes: header.length, sha256: sha256(header) },
    })
  },
)

test('another header with the same rest is the same object; anything else is not', async () => {
  const [one, other] = await Promise.all([sealed(randomBytes(500)), sealed(randomBytes(500), 2)])
  const recorded = sumOf(one.object)
  const rest = one.object.subarray(one.header.length)
  expect(isAsRecorded(recorded, sumOf(Buffer.concat([other.header, rest])))).toBe(true)
  expect(isAsRecorded(recorded, sumOf(other.object))).toBe(false)
  expect(isAsRecorded(recorded, sumOf(Buffer.concat([one.object, rest])))).toBe(false)
  const hurt = Buffer.from(one.object)
  hurt[hurt.length - 1]! ^= 1
  expect(isAsRecorded(recorded, sumOf(hurt))).toBe(false)
  expect(isAsRecorded({ ...recorded, bytes: recorded.bytes + 1 }, recorded)).toBe(false)
})

test('what has no header, or half of one, is no encrypted object', async () => {
  const { header, object } = await sealed(randomBytes(10))
  expect(() => sumOf(object.subarray(0, header.length - 1))).toThrow('before the end of its age header')
  expect(() => sumOf(Buffer.alloc(0))).toThrow('before the end of its age header')
  const sum = new ObjectSum(true)
  // Who reads a large object that is none must not gather it.
  expect(() => sum.push(Buffer.alloc(SEAL_HEADER_READ_BYTES, 'x'))).toThrow('does not begin as an age file')
  expect(readSealHeader(object)).toMatchObject({ recipients: 1 })
})
