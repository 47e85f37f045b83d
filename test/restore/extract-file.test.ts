import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { TarMember } from '../../src/archive/tar.ts'
import { FileSink, HOLE_BYTES } from '../../src/restore/extract-file.ts'

let folder = ''
let holesWork = false
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'pgrecall-extract-'))
  const facts = await write('probe', Buffer.alloc(1024 * 1024), { sparse: true })
  holesWork = facts.blocks === 0
})
afterAll(() => rm(folder, { recursive: true }))

const page = (byte: number) => Buffer.alloc(8192, byte)
const zeros = (bytes: number) => Buffer.alloc(bytes)
const memberOf = (path: string, size: number, more: Partial<TarMember> = {}): TarMember => ({
  path,
  type: 'file',
  size,
  mode: 0o600,
  mtime: 1_700_000_000,
  uid: 0,
  gid: 0,
  ...more,
})

/** Writes content in pieces and gives the file's facts and the sum that was told. */
async function write(
  name: string,
  content: Buffer,
  { sparse = false, pieceBytes = content.length || 1, mode = 0o600 } = {},
) {
  const path = join(folder, name)
  let sha256 = ''
  let bytes = 0
  const sink = new FileSink(path, memberOf(name, content.length, { mode }), {
    owner: undefined,
    sparse,
    onBytes: (count) => {
      bytes += count
    },
    onEnd: (sum) => {
      sha256 = sum
    },
  })
  for (let at = 0; at < content.length; at += pieceBytes) sink.write(content.subarray(at, at + pieceBytes))
  sink.end()
  const { blocks, mode: written, mtimeMs } = await stat(path)
  return { path, sha256, bytes, blocks, mode: written & 0o777, mtimeMs }
}

const CONTENTS: [string, Buffer][] = [
  ['nothing', Buffer.alloc(0)],
  ['one byte', Buffer.from('x')],
  ['only zeros', zeros(10 * HOLE_BYTES)],
  ['zeros and a bit', zeros(10 * HOLE_BYTES + 77)],
  ['zeros in front', Buffer.concat([zeros(3 * HOLE_BYTES), page(1)])],
  ['zeros at the end', Buffer.concat([page(1), zeros(3 * HOLE_BYTES)])],
  ['zeros in the middle', Buffer.concat([page(1), zeros(4 * HOLE_BYTES), page(2), zeros(8192), page(3)])],
  ['no zeros', randomBytes(5 * HOLE_BYTES + 3)],
]

describe.each([true, false])('with holes: %s', (sparse) => {
  test.each(CONTENTS)('a file of %s is as it was, in pieces of any size', async (what, content) => {
    for (const pieceBytes of [content.length || 1, 8192, HOLE_BYTES, HOLE_BYTES + 512, 3 * HOLE_BYTES + 1]) {
      const written = await write(`${what} ${sparse} ${pieceBytes}`, content, { sparse, pieceBytes })
      expect((await readFile(written.path)).equals(content), `pieces of ${pieceBytes}`).toBe(true)
      expect(written.sha256).toBe(createHash('sha256').update(content).digest('hex'))
      expect(written.bytes).toBe(content.length)
    }
  })
})

test('long runs of zeros take no space where that is wanted, and all of it where it is not', async (context) => {
  if (!holesWork) context.skip('this file system knows no holes')
  const content = Buffer.concat([page(1), zeros(1024 * 1024), page(2)])
  const sparse = await write('sparse', content, { sparse: true })
  const dense = await write('dense', content)
  expect(sparse.blocks * 512).toBeLessThan(3 * HOLE_BYTES)
  expect(dense.blocks * 512).toBeGreaterThanOrEqual(content.length)
})

test.each([0o600, 0o640, 0o400])('a file has its mode and its time (%o)', async (mode) => {
  const written = await write(`mode ${mode}`, page(1), { mode })
  expect(written).toMatchObject({ mode, mtimeMs: 1_700_000_000_000 })
})

test('what lies there already is neither written nor followed', async () => {
  const options = { owner: undefined, sparse: true, onBytes: () => {}, onEnd: () => {} }
  const [file, link] = [join(folder, 'there'), join(folder, 'link')]
  await writeFile(file, 'mine')
  await symlink(join(folder, 'elsewhere'), link)
  for (const path of [file, link]) {
    expect(() => new FileSink(path, memberOf('x', 1), options)).toThrow(/EEXIST/)
  }
  expect(await readFile(file, 'utf8')).toBe('mine')
  await expect(stat(join(folder, 'elsewhere'))).rejects.toThrow(/ENOENT/)
})
