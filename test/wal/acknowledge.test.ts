import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Repository } from '../../src/catalog/repository.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { S3Storage } from '../../src/storage/s3.ts'
import { sweepAcknowledged } from '../../src/wal/acknowledge.ts'
import { optionalRepository, plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'

const NAME = '000000010000000000000001'

let scratch: Scratch
let folder: string

beforeEach(async () => {
  scratch = await Scratch.create()
  folder = join(scratch.path, 'pg_wal/pgrecall/pushed')
  await mkdir(folder, { recursive: true })
  for (const name of [NAME, `${NAME}.from`]) await writeFile(join(folder, name), '')
})
afterEach(async () => {
  vi.useRealTimers()
  await scratch[Symbol.asyncDispose]()
})

const local = plainRepository('local', new LocalStorage('/nowhere'))
const bucket = new S3Storage({
  type: 's3',
  bucket: 'backups',
  prefix: '',
  conditionalWrites: true,
  partBytes: 8 * 1024 * 1024,
  parallelParts: 4,
})

test.each<[string, Repository[], number]>([
  ['of a folder stays, since the launcher sees its object', [local], 2],
  ['of a bucket goes, since nobody has looked for so long', [local, plainRepository('s3', bucket)], 0],
  ['does not speak of a bucket that is optional', [local, optionalRepository('s3', bucket)], 2],
])('an old note %s', async (_what, repositories, left) => {
  const waiting = new Set([NAME])
  sweepAcknowledged(scratch.path, waiting, repositories)
  expect(await readdir(folder)).toHaveLength(2)
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 6 * 60_000 })
  sweepAcknowledged(scratch.path, waiting, repositories)
  expect(await readdir(folder)).toHaveLength(left)
})
