import { expect, test } from 'vitest'
import { nameFromBytes, nameToBytes } from '../../src/archive/file-name.ts'
import { writeManifest } from '../../src/postgres/manifest.ts'
import { type ManifestEntry, ManifestReader } from '../../src/postgres/manifest-reader.ts'
import { readManifest } from './whole-manifest.ts'

const NAMES = [
  'PG_VERSION',
  'base/1/1259',
  'log/"quoted"\nline',
  nameFromBytes(Buffer.from('gr\xfcn', 'latin1')),
]
const whole = Buffer.concat(
  await Array.fromAsync(
    writeManifest(
      { systemIdentifier: '7400000000000000001', majorVersion: 17 },
      NAMES.map((path, index) => ({
        path,
        size: index * 8192,
        modifiedMs: 1_700_000_000_000,
        sha256: 'ab'.repeat(32),
      })),
      [{ timeline: 1, start: 0n, end: 1n }],
      nameToBytes,
    ),
  ),
)

function read(bytes: Buffer, pieceBytes = bytes.length || 1): ManifestEntry[] {
  const entries: ManifestEntry[] = []
  const reader = new ManifestReader(nameFromBytes, (entry) => entries.push(entry))
  const piece = Buffer.alloc(pieceBytes)
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    // The same memory for each piece, as a repository gives them.
    reader.push(piece.subarray(0, bytes.copy(piece, 0, at, at + pieceBytes)))
  }
  reader.finish()
  return entries
}

test('a manifest that arrives in pieces is read as a whole one', () => {
  const entries = readManifest(whole)
  expect(entries.map(({ path }) => path)).toEqual(NAMES)
  for (const pieceBytes of [1, 7, 100, 4096]) expect(read(whole, pieceBytes)).toEqual(entries)
})

test('any flipped bit, a missing end and anything behind it are errors', () => {
  for (let at = 0; at < whole.length - 3; at++) {
    const damaged = Buffer.from(whole)
    damaged[at]! ^= 1 << (at % 7)
    expect(() => read(damaged, 100), `byte ${at}`).toThrow(/manifest/)
  }
  for (let length = 0; length < whole.length - 3; length += 13) {
    expect(() => read(whole.subarray(0, length), 100), `${length} bytes`).toThrow(/manifest/)
  }
  expect(() => read(Buffer.concat([whole, whole]))).toThrow(/manifest/)
})

test('a line without end is not collected', () => {
  const reader = new ManifestReader(nameFromBytes, () => {})
  const endless = () => {
    for (let count = 0; count < 100; count++) reader.push(Buffer.alloc(64 * 1024, 'x'))
  }
  expect(endless).toThrow('a line without end')
})
