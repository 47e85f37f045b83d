import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { receivingKey } from '../../src/catalog/layout.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { readArchivedFile } from '../../src/wal/read.ts'
import { encodeWalFile } from '../../src/wal/stored-file.ts'
import { Lab } from '../lab/lab.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { plainRepository } from '../lab/repositories.ts'
import { receivingObject } from './receive-lab.ts'
import { finishSegment, objectOf, SMALL_SEGMENTS } from './segments.ts'

describe.skipIf(!findPrograms() && !process.env.CI)('a segment that is being received', () => {
  let lab: Lab
  let storage: LocalStorage
  /** The first one is stored; of the second, a beginning is. */
  let names: string[]
  let beginning: Buffer
  /** Of the third one. */
  let lastBeginning: Buffer

  beforeAll(async () => {
    lab = await Lab.create(SMALL_SEGMENTS)
    storage = new LocalStorage(lab.repository)
    names = [await finishSegment(lab), await finishSegment(lab), await finishSegment(lab)]
    await push(names[0]!)
    beginning = await beginningOf(names[1]!)
    lastBeginning = await beginningOf(names[2]!)
    await storage.put(receivingKey('main', names[1]!), encodeWalFile(beginning, 1).object)
  })
  beforeEach((context) => requireServer(context))
  afterAll(() => lab?.[Symbol.asyncDispose]())

  const beginningOf = async (name: string) => {
    const segment = await readFile(join(lab.cluster.dataDirectory, 'pg_wal', name))
    return Buffer.concat([segment.subarray(0, 100), Buffer.alloc(segment.length - 100)])
  }
  const push = async (name: string) =>
    expect((await lab.pgrecall(['wal-push', join(lab.cluster.dataDirectory, 'pg_wal', name)])).exitCode).toBe(
      0,
    )
  const read = (name: string, options?: Parameters<typeof readArchivedFile>[4]) =>
    readArchivedFile(plainRepository('local', storage), 'main', name, undefined, options)

  test('is given where the archive ends, but not to whoever keeps it', async () => {
    expect((await read(names[1]!))?.equals(beginning)).toBe(true)
    expect(await read(names[1]!, { wholeOnly: true })).toBeUndefined()
    expect(await read(names[2]!)).toBeUndefined()
  })

  test('is later WAL to a segment that is missing before it', async () => {
    await storage.put(receivingKey('main', names[2]!), encodeWalFile(lastBeginning, 1).object)
    const object = receivingObject(lab, names[1]!)
    await rename(object, `${object}.aside`)
    await expect(read(names[1]!)).rejects.toThrow('has a hole')
    await rename(`${object}.aside`, object)
    await rm(receivingObject(lab, names[2]!))
  })

  test('is an error where it is damaged, and not the end', async () => {
    const object = receivingObject(lab, names[1]!)
    const bytes = await readFile(object)
    await writeFile(object, bytes.subarray(0, -5))
    await expect(read(names[1]!)).rejects.toMatchObject({ kind: 'damaged' })
    const other = await readFile(join(lab.cluster.dataDirectory, 'pg_wal', names[2]!))
    await writeFile(object, encodeWalFile(other, 1).object)
    await expect(read(names[1]!)).rejects.toMatchObject({ kind: 'damaged' })
    await writeFile(object, bytes)
  })

  test('is not given before a later segment, nor instead of the whole one', async () => {
    await push(names[2]!)
    await expect(read(names[1]!)).rejects.toThrow('has a hole')
    await push(names[1]!)
    const whole = await readFile(join(lab.cluster.dataDirectory, 'pg_wal', names[1]!))
    expect((await read(names[1]!))?.equals(whole)).toBe(true)
    await rm(objectOf(lab, names[2]!))
    expect((await read(names[1]!))?.equals(whole)).toBe(true)
  })
})
