import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import {
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  rmdir,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { readWalSource } from '../../src/wal/wal-source.ts'
import { failureOf, labFolder } from '../backup/commands.ts'
import { Cluster } from '../lab/cluster.ts'
import { Lab } from '../lab/lab.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { asLabUser, giveToLabUser } from '../lab/user.ts'
import { copyTo, finishSegment, objectOf, SMALL_SEGMENTS, withOtherContent } from './segments.ts'

let lab: Lab
let clone: string
let segment: string
let path: string

const push = (file: string) => lab.pgrecall(['wal-push', file], { cwd: lab.cluster.dataDirectory })
const refusal = (file: string) => failureOf(lab, ['wal-push', file], { cwd: lab.cluster.dataDirectory })

describe.skipIf(!findPrograms() && !process.env.CI)('wal-push', () => {
  beforeAll(async () => {
    lab = await Lab.create(SMALL_SEGMENTS)
    clone = await lab.scratch.folder('clone')
  })
  beforeEach(async (context) => {
    requireServer(context)
    segment = await finishSegment(lab)
    path = join(lab.cluster.dataDirectory, 'pg_wal', segment)
  })
  afterAll(() => lab?.[Symbol.asyncDispose]())

  test('stores a segment silently, for zstd to unpack by its name', async () => {
    expect(await push(`pg_wal/${segment}`)).toEqual({
      exitCode: 0,
      signal: undefined,
      stdout: '',
      stderr: '',
    })
    const plain = execFileSync('zstd', ['-dcq', objectOf(lab, segment)], { maxBuffer: 2 ** 26 })
    expect(plain.equals(await readFile(path))).toBe(true)
  })

  test('takes the same segment again as success, and leaves what is stored', async () => {
    await push(path)
    const before = await readFile(objectOf(lab, segment))
    const { exitCode, stdout } = await lab.pgrecall(['wal-push', path, '--json'])
    expect(exitCode).toBe(0)
    expect(JSON.parse(stdout).repositories).toEqual([{ name: 'local', result: 'exists' }])
    expect((await readFile(objectOf(lab, segment))).equals(before)).toBe(true)
  })

  test('does not take for stored what was cut off', async () => {
    await push(path)
    await truncate(objectOf(lab, segment), 600)
    expect(await refusal(path)).toMatchObject({
      exitCode: 9,
      message: expect.stringContaining('not all of, what pgrecall wrote'),
    })
  })

  test('refuses what is written to while it is read', async () => {
    const copy = await copyTo(clone, path)
    await using handle = await open(copy, 'r+')
    let isOver = false
    const writing = (async () => {
      while (!isOver) await handle.write(Buffer.from('x'), 0, 1, 100_000)
    })()
    // Most readings are over before the next write: one of many is not.
    const refusals: string[] = []
    for (let attempt = 0; attempt < 500 && refusals.length === 0; attempt++) {
      await readWalSource(copy).catch((error) => refusals.push(error.message))
    }
    isOver = true
    await writing
    expect(refusals).toEqual([`${copy} was changed while it was read; nothing was stored`])
  })

  test.each([
    ['the server first', false],
    ['its clone first', true],
  ])('refuses differing bytes under one name, %s', async (_who, cloneFirst) => {
    const other = await copyTo(clone, path, withOtherContent)
    const [early, late] = cloneFirst ? [other, path] : [path, other]
    expect((await push(early)).exitCode).toBe(0)
    const before = await readFile(objectOf(lab, segment))
    expect(await refusal(late)).toMatchObject({ exitCode: 8, kind: 'conflict' })
    expect((await readFile(objectOf(lab, segment))).equals(before)).toBe(true)
  })

  test('lets exactly one of two win that push differing bytes at the same moment', async () => {
    for (let round = 0; round < 20; round++) {
      const name = await finishSegment(lab)
      const own = join(lab.cluster.dataDirectory, 'pg_wal', name)
      const other = await copyTo(clone, own, withOtherContent)
      const [a, b] = await Promise.all([push(own), push(other)])
      expect([a.exitCode, b.exitCode].sort()).toEqual([0, 8])
      const stored = execFileSync('zstd', ['-dcq', objectOf(lab, name)], { maxBuffer: 2 ** 26 })
      expect(stored.equals(await readFile(a.exitCode === 0 ? own : other))).toBe(true)
    }
  })

  test('lets both of two win that push the same bytes at the same moment', async () => {
    const other = await copyTo(clone, path)
    const results = await Promise.all([push(path), push(other)])
    expect(results.map(({ exitCode }) => exitCode)).toEqual([0, 0])
  })

  test("refuses another cluster's segment and history", async () => {
    await push(path)
    await using stranger = await Cluster.create({ within: lab.scratch, name: 'stranger', fresh: true })
    const foreign = join(stranger.dataDirectory, 'pg_wal')
    const file = '000000010000000000000001'
    await rm(objectOf(lab, file), { force: true })
    expect(await refusal(join(foreign, file))).toMatchObject({ exitCode: 8, kind: 'conflict' })
    expect(existsSync(objectOf(lab, file))).toBe(false)
    await writeFile(join(foreign, '00000009.history'), '1\t0/3000000\tno recovery target specified\n')
    await giveToLabUser(join(foreign, '00000009.history'))
    expect(await refusal(join(foreign, '00000009.history'))).toMatchObject({ exitCode: 8 })
    expect(existsSync(objectOf(lab, '00000009.history'))).toBe(false)
  })

  test('stores histories, backup labels and partial segments, and gives them back', async () => {
    const history = join(clone, '00000002.history')
    await writeFile(history, '1\t0/3000000\tno recovery target specified\n')
    const label = join(clone, `${segment}.00000028.backup`)
    await writeFile(label, 'START WAL LOCATION: 0/3000028 (file x)\n')
    for (const file of [history, label]) await giveToLabUser(file)
    const partial = await copyTo(clone, path, undefined, `${segment}.partial`)
    for (const file of [history, label, partial]) {
      expect((await push(file)).exitCode).toBe(0)
      const target = join(lab.scratch.path, 'fetched')
      const name = file.slice(clone.length + 1)
      expect((await lab.pgrecall(['wal-fetch', name, target])).exitCode).toBe(0)
      expect((await readFile(target)).equals(await readFile(file))).toBe(true)
      await rm(target)
    }
  })

  test.each<[string, () => Promise<string>, number]>([
    ['a truncated segment', () => copyTo(clone, path, (bytes) => bytes.subarray(0, 1_000_000)), 9],
    ['an empty segment', () => copyTo(clone, path, () => Buffer.alloc(0)), 9],
    ['a segment of zeros', () => copyTo(clone, path, (bytes) => Buffer.alloc(bytes.length)), 9],
    ['a segment under another name', () => copyTo(clone, path, undefined, '0000000100000000000000EE'), 9],
    ['a file that is no WAL', () => copyTo(clone, path, undefined, 'core'), 2],
    ['a file that is not there', async () => join(clone, '0000000100000000000000FF'), 11],
  ])('refuses %s', async (_what, make, exitCode) => {
    const file = await make()
    expect(await refusal(file)).toMatchObject({ exitCode })
    expect(existsSync(`${lab.repository}/main/wal/00000001/00000000/${file.slice(-24)}.zst`)).toBe(false)
  })

  test('stays within the exit codes that PostgreSQL retries, whatever is wrong', async () => {
    const broken = await lab.scratch.file('broken.yaml', 'repositories: [')
    const { launcher } = lab.product
    const codeOf = async (args: string[]) =>
      (await execa(launcher, args, { ...asLabUser, cwd: lab.scratch.path, reject: false })).exitCode
    const codes = [
      await codeOf(['--config', broken, 'wal-push', path]),
      await codeOf(['--config', '/nowhere.yaml', 'wal-push', path]),
      await codeOf(['--config', lab.configFile, 'wal-push']),
      await codeOf(['--config', lab.configFile, '--cluster', 'other', 'wal-push', path]),
      await codeOf(['--config', lab.configFile, 'wal-push', '--nonsense', path]),
    ]
    for (const code of codes) {
      expect(code).toBeGreaterThanOrEqual(1)
      expect(code).toBeLessThanOrEqual(125)
    }
  })

  test('works with an empty environment, through a link, from any folder', async () => {
    const link = join(lab.scratch.path, 'linked pgrecall')
    await symlink(lab.product.launcher, link)
    const elsewhere = await labFolder(join(lab.scratch.path, 'else where'))
    const args = ['-i', link, '--config', lab.configFile, 'wal-push', path]
    const { exitCode, stderr } = await execa('env', args, { ...asLabUser, cwd: elsewhere, reject: false })
    expect(stderr).toBe('')
    expect(exitCode).toBe(0)
    expect(existsSync(objectOf(lab, segment))).toBe(true)
  })

  test('stores in every repository, and when one fails, in the others, until all have it', async () => {
    const second = join(lab.scratch.path, 'second')
    await lab.writeConfiguration((configuration) => {
      configuration.repositories.second = { type: 'local', path: second }
      configuration.clusters.main!.repositories = ['second', 'local']
    })
    try {
      // An empty folder where the disk is to be mounted: what would be stored there would be hidden by the mount.
      await rename(second, `${second}.unmounted`)
      await mkdir(second)
      await giveToLabUser(second)
      expect(await refusal(path)).toMatchObject({ exitCode: 7, kind: 'repository' })
      expect(await readdir(second)).toEqual([])
      expect(existsSync(objectOf(lab, segment))).toBe(true)
      await rmdir(second)
      await rename(`${second}.unmounted`, second)
      expect((await push(path)).exitCode).toBe(0)
      expect(existsSync(objectOf(lab, segment, second))).toBe(true)
    } finally {
      await lab.writeConfiguration()
    }
  })
})

describe.skipIf(!findPrograms() && !process.env.CI)('a cluster with segments of 128 MiB', () => {
  test('gets them back from the archive', async (context) => {
    requireServer(context)
    await using large = await Lab.create({ initdb: ['--wal-segsize=128'], archive: false })
    const name = await finishSegment(large)
    const source = join(large.cluster.dataDirectory, 'pg_wal', name)
    const target = join(large.scratch.path, 'fetched')
    expect((await large.pgrecall(['wal-push', source])).exitCode).toBe(0)
    expect(await large.pgrecall(['wal-fetch', name, target])).toMatchObject({ exitCode: 0, stderr: '' })
    expect((await readFile(target)).equals(await readFile(source))).toBe(true)
  })
})
