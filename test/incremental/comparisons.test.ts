import { closeSync, openSync, readSync, truncateSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import { backUp, restoreTo } from '../backup/commands.ts'
import { Lab } from '../lab/lab.ts'
import { findPrograms } from '../lab/programs.ts'
import { type Expected, problemsInFiles, problemsInServer } from './inspect.ts'
import { createTable, insert, MADE_ROWS } from './table-statements.ts'
import { unpack } from './unpack.ts'
import type { Table } from './world.ts'

const PAGE = 8192

let lab: Lab
let record: BackupRecord
let expected: Expected
let unpacked: string[]
/** Restored from the newest backup, and from the one before it. */
let good: string
let older: string
let copies = 0

/**
 * The harness of the chains looks with many eyes. Here each kind of corruption that a chain could bring is made by hand,
 * so that nobody believes in eyes that are closed.
 */
describe.skipIf(!findPrograms() && !process.env.CI)('a restored cluster with', () => {
  beforeAll(async () => {
    lab = await Lab.create({ settings: { autovacuum: false } })
    const table: Table = { name: 't1', nextId: 1, logged: true }
    await lab.cluster.sql(MADE_ROWS)
    for (const statement of [...createTable(table, { fillfactor: 70 }), insert(table, 2000)]) {
      await lab.cluster.sql(statement)
    }
    await lab.cluster.sql('VACUUM t1')
    const first = await backUp(lab)
    await lab.cluster.sql('DELETE FROM t1 WHERE id % 5 = 0')
    await lab.cluster.sql('VACUUM t1')
    await lab.cluster.sql(`UPDATE t1 SET k = (k + 1) % 997, tags = '{1}', place = '(1,1)', word = md5(word)`)
    record = await backUp(lab)
    expected = { cluster: lab.cluster, quiet: true, hintsAreLogged: true, checksums: true }
    unpacked = [await unpack(lab, record.id, 'unpacked')]
    older = await restoreTo(lab, 'older', [first.id, '--immediate', '--target-action', 'promote'])
    good = await restoreTo(lab, 'good', [record.id, '--immediate', '--target-action', 'promote'])
  })
  afterAll(() => lab?.[Symbol.asyncDispose]())

  test('no corruption is found to be right', async () => {
    expect(await problemsOf(() => {})).toEqual({ inFiles: [], inServer: [] })
  })

  test.each([
    ['t1', 3],
    ['t1', 12],
  ])('an old block of the table %s, number %i', async (name, block) => {
    const path = await pathOf(name)
    const { inFiles, inServer } = await problemsOf((copy) => makeOld(copy, path, block))
    expect(inFiles).toContainEqual(
      expect.stringContaining(`${path} differs from the chain in blocks ${block}`),
    )
    expect(inFiles).toContainEqual(
      expect.stringContaining(`${path} is older than the source's in blocks ${block} `),
    )
    expect(inFiles).toContainEqual(expect.stringContaining('pg_verifybackup'))
    expect(inServer).toContainEqual(expect.stringMatching(/^postgres: public.t1 has \d+ rows/))
    expect(inServer).toContainEqual(expect.stringContaining('pg_amcheck'))
  })

  test.each(['pkey', 'hash', 'gin', 'gist', 'spgist', 'brin'])('old blocks of an index: %s', async (kind) => {
    const path = await pathOf(`t1_${kind}`)
    const { inFiles, inServer } = await problemsOf((copy) => makeOld(copy, path))
    expect(inFiles).toContainEqual(expect.stringContaining(`${path} is older than the source's`))
    expect(inFiles).toContainEqual(expect.stringMatching(`${path} (differs from|was restored with)`))
    // What a BRIN index had before was true of more rows, maybe.
    if (kind !== 'brin') expect(inServer).not.toEqual([])
  })

  test('a flipped bit', async () => {
    const path = await pathOf('t1')
    const { inFiles, inServer } = await problemsOf((copy) => {
      change(join(copy, path), 4 * PAGE, (page) => {
        page[5000]! ^= 4
        return page
      })
    })
    expect(inFiles).toHaveLength(3)
    expect(inServer.join('\n')).toMatch(/invalid page|checksum/)
  })

  test('a file without its last block', async () => {
    const path = await pathOf('t1')
    const { inFiles, inServer } = await problemsOf((copy) => {
      truncateSync(join(copy, path), 10 * PAGE)
    })
    expect(inFiles).toContainEqual(expect.stringContaining(`${path} was restored with ${10 * PAGE} bytes`))
    expect(inServer).not.toEqual([])
  })

  test('an old visibility map', async () => {
    const path = `${await pathOf('t1')}_vm`
    const { inFiles, inServer } = await problemsOf((copy) => makeOld(copy, path))
    expect(inFiles).toContainEqual(expect.stringContaining(`${path} differs from the chain`))
    expect(inServer).toContainEqual(expect.stringContaining('not as visible as its map says'))
  })
})

/** Spoils a copy of the good directory, and looks at it. */
async function problemsOf(spoil: (copy: string) => void) {
  const copy = join(lab.scratch.path, `copy-${++copies}`)
  await execa('cp', ['-a', good, copy])
  spoil(copy)
  const inFiles = await problemsInFiles(lab, { record, dataDirectory: copy, unpacked }, expected)
  await using server = await lab.adopt(copy, { settings: { archive_mode: false } })
  const inServer = await server
    .start()
    .then(() => server.waitForPromotion())
    .then(() => problemsInServer(server, expected))
    .catch((error: Error) => [error.message])
  return { inFiles, inServer }
}

async function pathOf(name: string): Promise<string> {
  const [row] = await lab.cluster.sql<{ path: string }>(`SELECT pg_relation_filepath('${name}') AS path`)
  return row!.path
}

/** Puts blocks of the backup before in the place of the new ones. @param only one of them; all without */
function makeOld(copy: string, path: string, only?: number): void {
  const old = openSync(join(older, path), 'r')
  const page = Buffer.alloc(PAGE)
  for (let block = only ?? 0; readSync(old, page, 0, PAGE, block * PAGE) === PAGE; block++) {
    change(join(copy, path), block * PAGE, () => page)
    if (only !== undefined) break
  }
  closeSync(old)
}

/** Replaces a page of a file by what is made of it. */
function change(file: string, at: number, other: (page: Buffer) => Buffer): void {
  const opened = openSync(file, 'r+')
  const page = Buffer.alloc(PAGE)
  readSync(opened, page, 0, PAGE, at)
  writeSync(opened, other(page), 0, PAGE, at)
  closeSync(opened)
}
