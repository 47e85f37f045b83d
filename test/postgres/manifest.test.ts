import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { nameFromBytes, nameToBytes } from '../../src/archive/file-name.ts'
import { type ManifestFile, writeManifest } from '../../src/postgres/manifest.ts'
import { readManifest } from './whole-manifest.ts'

const SUM = 'ab'.repeat(32)
const file = (path: string, more: Partial<ManifestFile> = {}): ManifestFile => ({
  path,
  size: 8192,
  modifiedMs: Date.parse('2026-11-20T12:34:56.789Z'),
  sha256: SUM,
  ...more,
})
const RANGE = { timeline: 1, start: 0x16_b374d848n, end: 0x16_b400_0000n }
const write = async (files: ManifestFile[], majorVersion = 17, ranges = [RANGE]) => {
  const head = { systemIdentifier: '7400000000000000001', majorVersion }
  return Buffer.concat(await Array.fromAsync(writeManifest(head, files, ranges, nameToBytes)))
}
const read = readManifest

const INVALID_UTF8 = nameFromBytes(Buffer.from('base/gr\xfcn', 'latin1'))
const NAMES = [
  'PG_VERSION',
  'pg_tblspc/16390/PG_17_202406281/5/16400',
  'log/"quoted" \\ back\nline\ttab',
  'log/Größe 日本',
  INVALID_UTF8,
]

test.each([
  [13, 1, false],
  [16, 1, false],
  [17, 2, true],
  [18, 2, true],
])('for version %d the format is %d', async (majorVersion, format, hasIdentifier) => {
  const text = (await write([file('PG_VERSION')], majorVersion)).toString()
  expect(text.startsWith(`{ "PostgreSQL-Backup-Manifest-Version": ${format},\n`)).toBe(true)
  expect(text.includes('"System-Identifier": 7400000000000000001,\n')).toBe(hasIdentifier)
})

test('every line is as PostgreSQL writes it, with the checksum of all before it', async () => {
  const text = (await write([file('PG_VERSION', { size: 3 }), file(INVALID_UTF8)])).toString()
  const [head, last] = text.split(/(?="Manifest-Checksum")/)
  expect(head).toBe(`{ "PostgreSQL-Backup-Manifest-Version": 2,
"System-Identifier": 7400000000000000001,
"Files": [
{ "Path": "PG_VERSION", "Size": 3, "Last-Modified": "2026-11-20 12:34:56 GMT", "Checksum-Algorithm": "SHA256", "Checksum": "${SUM}" },
{ "Encoded-Path": "626173652f6772fc6e", "Size": 8192, "Last-Modified": "2026-11-20 12:34:56 GMT", "Checksum-Algorithm": "SHA256", "Checksum": "${SUM}" }
],
"WAL-Ranges": [
{ "Timeline": 1, "Start-LSN": "16/B374D848", "End-LSN": "16/B4000000" }
],
`)
  expect(last).toBe(`"Manifest-Checksum": "${createHash('sha256').update(head!).digest('hex')}"}\n`)
})

test.each([0, 1, 999, 1000, 1001, 2500])('%d files are valid JSON, and are read back', async (count) => {
  const files = Array.from({ length: count }, (_, index) => file(`base/5/${index}`, { size: index * 8192 }))
  const bytes = await write(files, 17, [RANGE, { timeline: 2, start: 0n, end: 1n }])
  const parsed = JSON.parse(bytes.toString())
  expect(parsed.Files).toHaveLength(count)
  expect(parsed['WAL-Ranges']).toHaveLength(2)
  expect(read(bytes)).toEqual(
    files.map(({ path, size }) => ({ path, size, algorithm: 'SHA256', checksum: SUM })),
  )
})

test('names of any bytes come back as they were', async () => {
  const bytes = await write(NAMES.map((name) => file(name)))
  expect(read(bytes).map(({ path }) => path)).toEqual(NAMES)
  JSON.parse(bytes.toString())
})

describe('what pg_basebackup writes is read', () => {
  const manifest = (lines: string[]) => {
    const head = `{ "PostgreSQL-Backup-Manifest-Version": 1,\n"Files": [\n${lines.join(',\n')}\n],\n"WAL-Ranges": [\n{ "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000138" }\n],\n`
    return Buffer.from(`${head}"Manifest-Checksum": "${createHash('sha256').update(head).digest('hex')}"}\n`)
  }

  test('with other algorithms, and with none', () => {
    const lines = [
      '{ "Path": "backup_label", "Size": 227, "Last-Modified": "2026-11-20 12:34:56 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "2f3e9c4a" }',
      '{ "Path": "tablespace_map", "Size": 0, "Last-Modified": "2026-11-20 12:34:56 GMT" }',
      '{ "Encoded-Path": "fc", "Size": 1, "Last-Modified": "2026-11-20 12:34:56 GMT" }',
    ]
    expect(read(manifest(lines))).toEqual([
      { path: 'backup_label', size: 227, algorithm: 'CRC32C', checksum: '2f3e9c4a' },
      { path: 'tablespace_map', size: 0, algorithm: undefined, checksum: undefined },
      { path: '\udcfc', size: 1, algorithm: undefined, checksum: undefined },
    ])
  })
})

describe('is an error', async () => {
  const whole = await write(NAMES.map((name) => file(name)))

  test('any flipped bit', () => {
    for (let at = 0; at < whole.length - 3; at++) {
      const damaged = Buffer.from(whole)
      damaged[at]! ^= 1 << (at % 7)
      expect(() => read(damaged), `byte ${at}`).toThrow(/manifest/)
    }
  })

  test('an end that is missing', () => {
    for (let length = 0; length < whole.length - 3; length += 13) {
      expect(() => read(whole.subarray(0, length)), `${length} bytes`).toThrow(/manifest/)
    }
  })
})
