import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { fsPath, nameFromBytes, nameToBytes } from '../../src/archive/file-name.ts'
import { Scratch } from '../lab/scratch.ts'

const NAMES: [string, Buffer][] = [
  ['plain', Buffer.from('base/16384/2619')],
  ['non-ASCII', Buffer.from('Größe/日本/🐘')],
  ['Latin-1', Buffer.from('Gr\xf6\xdfe', 'latin1')],
  ['a cut sequence', Buffer.from([0x61, 0xe6, 0x97])],
  ['an encoded surrogate, which is not UTF-8', Buffer.from([0xed, 0xb2, 0x80])],
  ['every byte that a name can have', Buffer.from(Array.from({ length: 255 }, (_, index) => index + 1))],
  ['empty', Buffer.alloc(0)],
]

test.each(NAMES)('a name comes back as the bytes that it was: %s', (_what, bytes) => {
  expect(nameToBytes(nameFromBytes(bytes))).toEqual(bytes)
})

test('a valid name is its text, and another one keeps its ASCII characters', () => {
  expect(nameFromBytes(Buffer.from('Größe'))).toBe('Größe')
  expect(nameFromBytes(Buffer.from('a/\xf6.b', 'latin1'))).toBe('a/\udcf6.b')
})

test('different bytes are different names', () => {
  const names = Array.from({ length: 256 }, (_, byte) => nameFromBytes(Buffer.from([0x61, byte])))
  expect(new Set(names).size).toBe(256)
})

test.each(NAMES)('a name below a folder with a non-ASCII name keeps both: %s', (_what, bytes) => {
  const path = `/srv/Größe/日本🐘/${nameFromBytes(bytes)}`
  expect(nameToBytes(path)).toEqual(Buffer.concat([Buffer.from('/srv/Größe/日本🐘/'), bytes]))
})

test('the file system takes what fsPath gives, also below a folder with a non-ASCII name', async () => {
  await using scratch = await Scratch.create('names')
  const root = join(scratch.path, 'Größe')
  await mkdir(root)
  const names = [nameFromBytes(Buffer.from('gr\xfcn', 'latin1')), 'grün', 'green']
  for (const name of names) await writeFile(fsPath(join(root, name)), name.at(-1)!)
  const found = (await readdir(root, { encoding: 'buffer' })).map(nameFromBytes)
  expect(found.toSorted()).toEqual(names.toSorted())
  for (const name of names) expect(await readFile(fsPath(join(root, name)), 'utf8')).toBe(name.at(-1))
})
