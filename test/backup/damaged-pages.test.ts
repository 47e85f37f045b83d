import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { Lab } from '../lab/lab.ts'
import { resultOf } from '../lab/product.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { backUp, failureOf, listedBackups } from './commands.ts'

const PAGE = 8192

describe.skipIf(!findPrograms() && !process.env.CI)('pages that were damaged on the disk', () => {
  let lab: Lab
  let path: string

  beforeAll(async () => {
    lab = await Lab.create()
    const { cluster } = lab
    await cluster.sql(
      'CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 20000) AS n; CHECKPOINT',
    )
    const [row] = await cluster.sql<{ path: string }>(`SELECT pg_relation_filepath('t') AS path`)
    path = row!.path
    await cluster.stop()
    await damage(path, 7)
    await damage(path, 8)
    await damage(path, 20)
    await cluster.start()
  })
  beforeEach((context) => void requireServer(context))
  afterAll(() => lab?.[Symbol.asyncDispose]())

  test.each(['files', 'stream'])(
    'are told by file and block, and recorded, with method %s',
    async (method) => {
      const result = await resultOf((await lab.startPgrecall(['backup', '--method', method])).process)
      expect(result.exitCode).toBe(13)
      expect(result.stdout).toContain(`3 pages do not fit their checksums:\n  ${path}: blocks 7 to 8, 20`)
      const id = (await listedBackups(lab)).at(-1)!
      const shown = await lab.pgrecall(['show', id, '--json'])
      expect(JSON.parse(shown.stdout)).toMatchObject({
        damagedPages: 3,
        damaged: [
          {
            path,
            pages: 3,
            blocks: [
              [7, 8],
              [20, 20],
            ],
          },
        ],
      })
      expect((await lab.pgrecall(['show', id])).stdout).toContain(`${path}: blocks 7 to 8, 20`)
      expect((await lab.pgrecall(['list'])).stdout).toMatch(/Damaged pages/)
    },
  )

  test('void the backup where that is asked for', async () => {
    const before = await listedBackups(lab)
    const failure = await failureOf(lab, ['backup', '--checksum-failures', 'fail'])
    expect(failure).toMatchObject({ exitCode: 13, kind: 'pages' })
    expect(failure.message).toContain(`${path}, block 7`)
    expect(await listedBackups(lab)).toEqual(before)
  })

  test('are not looked for in a cluster without checksums', async () => {
    await using plain = await Lab.create({ checksums: false })
    const record = await backUp(plain)
    expect(record.damagedPages).toBeUndefined()
    expect((await plain.pgrecall(['show'])).stdout).toMatch(/Page checksums +off/)
  })

  async function damage(relation: string, block: number): Promise<void> {
    const file = await open(join(lab.cluster.dataDirectory, relation), 'r+')
    const byte = Buffer.alloc(1)
    const position = block * PAGE + 5000
    await file.read(byte, 0, 1, position)
    byte[0]! ^= 0x10
    await file.write(byte, 0, 1, position)
    await file.close()
  }
})
