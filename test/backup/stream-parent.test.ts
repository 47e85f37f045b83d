import { readdirSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { afterEach, expect, test, vi } from 'vitest'
import { keepManifest } from '../../src/backup/stream-parent.ts'
import { Scratch } from '../lab/scratch.ts'

afterEach(() => void vi.unstubAllEnvs())

test('the manifest of a parent is kept in a file that nobody else finds', async () => {
  await using scratch = await Scratch.create('parent')
  vi.stubEnv('TMPDIR', scratch.path)
  const seen: string[][] = []
  const pieces = async function* () {
    for (const text of ['the ', 'whole ', 'manifest\n']) {
      seen.push(readdirSync(scratch.path))
      yield Buffer.from(text)
    }
  }
  await using file = await keepManifest(pieces())
  expect(seen).toEqual([[], [], []])
  expect((await file.stat()).mode & 0o777).toBe(0o600)
  // As the program does it, which opens it again as its own input.
  expect(await readFile(`/proc/self/fd/${file.fd}`, 'utf8')).toBe('the whole manifest\n')
  expect(await file.readFile('utf8')).toBe('the whole manifest\n')
})

test('nothing is left where it cannot be read', async () => {
  await using scratch = await Scratch.create('parent')
  vi.stubEnv('TMPDIR', scratch.path)
  const before = readdirSync('/proc/self/fd').length
  const broken = new Error('broken')
  const pieces = async function* () {
    yield Buffer.from('the ')
    throw broken
  }
  await expect(keepManifest(pieces())).rejects.toBe(broken)
  expect(readdirSync(scratch.path)).toEqual([])
  expect(readdirSync('/proc/self/fd').length).toBe(before)
})

test('a temporary folder that is not there is named', async () => {
  await using scratch = await Scratch.create('parent')
  vi.stubEnv('TMPDIR', `${scratch.path}/none`)
  await expect(keepManifest((async function* () {})())).rejects.toMatchObject({
    kind: 'failed',
    message: expect.stringContaining(`${scratch.path}/none`),
    hint: expect.stringContaining('TMPDIR'),
  })
})
