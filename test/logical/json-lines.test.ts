import { afterEach, beforeEach, expect, test } from 'vitest'
import { codecSuffix, compressFrame } from '../../src/archive/codec.ts'
import { backupPrefix } from '../../src/catalog/layout.ts'
import type { LogicalObject } from '../../src/catalog/logical-record.ts'
import { putObject } from '../../src/catalog/put-object.ts'
import { readJsonLines } from '../../src/logical/json-lines.ts'
import { localStorage } from '../copy/sample.ts'
import { plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'

const PLACE = { cluster: 'main', id: '20261120T120000Z-logical' }
const CODEC = { method: 'zstd', level: 1 } as const

let scratch: Scratch
beforeEach(async () => {
  scratch = await Scratch.create('json-lines')
})
afterEach(() => scratch[Symbol.asyncDispose]())

async function stored(text: string) {
  const repository = plainRepository('here', await localStorage(scratch, 'here'))
  const bytes = Buffer.from(text)
  // Frames that end anywhere, also within a character.
  const cuts = Array.from({ length: Math.ceil(bytes.length / 7) }, (_, at) =>
    bytes.subarray(7 * at, 7 * at + 7),
  )
  const frames = cuts.map((frame) => compressFrame(CODEC, frame))
  const name = `contents.jsonl${codecSuffix(CODEC)}`
  const put = await putObject(repository.storage, backupPrefix(PLACE.cluster, PLACE.id), name, frames, {
    sealer: undefined,
  })
  const object: LogicalObject = { ...put, kind: 'contents' }
  return { repository, object, key: backupPrefix(PLACE.cluster, PLACE.id) + name }
}

const linesOf = ({ repository, object }: Awaited<ReturnType<typeof stored>>) =>
  Array.fromAsync(readJsonLines<unknown>(repository, PLACE, object))

test('only a line feed ends a line', async () => {
  const values = [
    'plain',
    'line\u2028separator',
    'paragraph\u2029separator',
    'next\u0085line',
    'Größe 漢字 🐘',
    '\r\n',
  ]
  const text = values.map((value) => `${JSON.stringify(value)}\n`).join('')
  expect(text.split('\n')).toHaveLength(values.length + 1)
  expect(await linesOf(await stored(text))).toEqual(values)
})

test('what is no JSON, is not what was recorded, or is not there, is damage', async () => {
  await expect(linesOf(await stored('{"a": 1}\n{"b": \n'))).rejects.toMatchObject({ kind: 'damaged' })
  const whole = await stored('1\n2\n')
  const other = { ...whole, object: { ...whole.object, sha256: '0'.repeat(64) } }
  await expect(linesOf(other)).rejects.toMatchObject({
    kind: 'damaged',
    message: expect.stringContaining('its bytes are not those that were stored'),
  })
  await whole.repository.storage.remove(whole.key)
  await expect(linesOf(whole)).rejects.toMatchObject({
    kind: 'damaged',
    message: expect.stringContaining('it is missing'),
  })
})
