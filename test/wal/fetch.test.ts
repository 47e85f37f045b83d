import { existsSync } from 'node:fs'
import { copyFile, mkdir, readdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { Lab } from '../lab/lab.ts'
import type { RunResult } from '../lab/product.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { copyTo, finishSegment, objectOf, SMALL_SEGMENTS } from './segments.ts'

let lab: Lab
let recovery: string
let standby: string
/** Archived, one after another. */
let segments: string[]

describe.skipIf(!findPrograms() && !process.env.CI)('wal-fetch', () => {
  beforeAll(async () => {
    lab = await Lab.create(SMALL_SEGMENTS)
    recovery = await lab.scratch.folder('recovery')
    standby = await lab.scratch.folder('standby')
    await lab.scratch.file('standby/standby.signal', '')
  })
  beforeEach(async (context) => {
    requireServer(context)
    segments = []
    for (let count = 0; count < 3; count++) segments.push(await finishSegment(lab))
    for (const name of segments) {
      const path = join(lab.cluster.dataDirectory, 'pg_wal', name)
      expect((await lab.pgrecall(['wal-push', path])).exitCode).toBe(0)
    }
  })
  afterAll(() => lab?.[Symbol.asyncDispose]())

  const fetchInto = (folder: string, name: string): Promise<RunResult> =>
    lab.pgrecall(['wal-fetch', name, 'RECOVERYXLOG'], { cwd: folder })

  /** What recovery and standby get, and that neither gets a file. */
  async function codesFor(name: string): Promise<{ recovery: unknown; standby: unknown; stderr: string }> {
    const [inRecovery, inStandby] = await Promise.all([fetchInto(recovery, name), fetchInto(standby, name)])
    expect(await readdir(recovery)).toEqual([])
    expect(await readdir(standby)).toEqual(['standby.signal'])
    return { recovery: inRecovery.exitCode, standby: inStandby.exitCode, stderr: inRecovery.stderr }
  }

  test('brings the very bytes that were archived, silently', async () => {
    const answer = await fetchInto(recovery, segments[1]!)
    expect(answer).toEqual({ exitCode: 0, signal: undefined, stdout: '', stderr: '' })
    const fetched = join(recovery, 'RECOVERYXLOG')
    const original = join(lab.cluster.dataDirectory, 'pg_wal', segments[1]!)
    expect((await readFile(fetched)).equals(await readFile(original))).toBe(true)
    expect(await readdir(recovery)).toEqual(['RECOVERYXLOG'])
    await rm(fetched)
  })

  test('answers 1 for what comes after the end of the archive, and leaves no file', async () => {
    for (const name of ['0000000100000000000000F0', '00000002.history', '000000020000000000000001']) {
      expect(await codesFor(name)).toMatchObject({ recovery: 1, standby: 1 })
    }
  })

  test.each<[string, (object: string) => Promise<void>]>([
    ['has a flipped bit', flipABit],
    ['is truncated', async (object) => truncate(object, (await readFile(object)).length - 10)],
    ['is empty', (object) => truncate(object, 0)],
    ['holds another segment', (object) => copyFile(objectOf(lab, segments[2]!), object)],
    ['is missing among others', (object) => rm(object)],
  ])('stops a recovery and lets a standby ask again when the object %s', async (_what, damage) => {
    const object = objectOf(lab, segments[1]!)
    await damage(object)
    const codes = await codesFor(segments[1]!)
    expect(codes).toMatchObject({ recovery: 200, standby: 1 })
    expect(codes.stderr).toContain(segments[1])
  })

  test('stops a recovery when two objects are exchanged', async () => {
    const [a, b] = [objectOf(lab, segments[0]!), objectOf(lab, segments[1]!)]
    await rename(a, `${a}.aside`)
    await rename(b, a)
    await rename(`${a}.aside`, b)
    expect(await codesFor(segments[0]!)).toMatchObject({ recovery: 200, standby: 1 })
    expect(await codesFor(segments[1]!)).toMatchObject({ recovery: 200, standby: 1 })
  })

  test('does not take WAL that was removed from the beginning for the end, unless the server has it itself', async () => {
    await rm(objectOf(lab, segments[0]!))
    expect(await codesFor(segments[0]!)).toMatchObject({ recovery: 200, standby: 1 })
    const own = await lab.scratch.folder(`own-${segments[0]}`)
    await mkdir(join(own, 'pg_wal'), { recursive: true })
    const original = join(lab.cluster.dataDirectory, 'pg_wal', segments[0]!)
    const ask = async () =>
      (await lab.pgrecall(['wal-fetch', segments[0]!, 'pg_wal/RECOVERYXLOG'], { cwd: own, user: 'self' }))
        .exitCode
    expect(await ask()).toBe(200)
    await copyFile(original, join(own, 'pg_wal', segments[0]!))
    expect(await ask()).toBe(1)
    await truncate(join(own, 'pg_wal', segments[0]!), 100)
    expect(await ask()).toBe(200)
  })

  test("knows a hole at a timeline's beginning, and a missing history, from the WAL before it", async () => {
    const folder = await lab.scratch.folder(`timeline-${segments[0]}`)
    const begin = Number.parseInt(segments[1]!.slice(-8), 16) * 1024 * 1024 + 256
    const history = join(folder, '00000002.history')
    await writeFile(history, `1\t0/${begin.toString(16)}\tno recovery target specified\n`)
    const later = await copyTo(
      folder,
      join(lab.cluster.dataDirectory, 'pg_wal', segments[2]!),
      undefined,
      `00000002${segments[2]!.slice(8)}`,
    )
    const push = (file: string) => lab.pgrecall(['wal-push', file], { user: 'self' })
    expect((await push(later)).exitCode).toBe(0)
    // The timeline is there, so its history must be: without it, recovery would end on the old one.
    expect(await codesFor('00000002.history')).toMatchObject({ recovery: 200, standby: 1 })
    expect((await push(history)).exitCode).toBe(0)
    expect(await codesFor(`00000002${segments[1]!.slice(8)}`)).toMatchObject({ recovery: 200, standby: 1 })
    // Older servers ask the new timeline first for what only the old one has.
    expect(await codesFor(`00000002${segments[0]!.slice(8)}`)).toMatchObject({ recovery: 1, standby: 1 })
    await rm(join(lab.repository, 'main/wal/00000002'), { recursive: true })
  })

  test('knows that a segment must be there from the timeline to which the recovery goes over after it', async () => {
    const folder = await lab.scratch.folder(`way-${segments[0]}`)
    for (const name of ['pg_wal', 'global']) await mkdir(join(folder, name))
    await copyFile(join(lab.cluster.dataDirectory, 'global/pg_control'), join(folder, 'global/pg_control'))
    const ask = async (segment: number) => {
      const name = `0000000100000000000000${segment.toString(16).toUpperCase()}`
      const args = ['wal-fetch', name, 'pg_wal/RECOVERYXLOG']
      return (await lab.pgrecall(args, { cwd: folder, user: 'self' })).exitCode
    }
    expect(await ask(0xe0)).toBe(1)
    // PostgreSQL puts the history there along which it recovers: it leaves timeline 1 in the segment F0.
    await writeFile(join(folder, 'pg_wal/00000002.history'), `1\t0/F000100\tno recovery target specified\n`)
    expect(await Promise.all([0xe0, 0xef, 0xf0, 0xf1].map(ask))).toEqual([200, 200, 1, 1])
    await writeFile(join(folder, 'standby.signal'), '')
    expect(await ask(0xe0)).toBe(1)
  })

  test('takes a repository that is not mounted for an outage, and not for the end of the WAL', async () => {
    await rename(lab.repository, `${lab.repository}.aside`)
    try {
      const codes = await codesFor(segments[1]!)
      expect(codes).toMatchObject({ recovery: 200, standby: 1 })
      expect(codes.stderr).toContain(lab.repository)
      expect(codes.stderr).toContain('were made with? A recovery must stop here; start the server again')
    } finally {
      await rename(`${lab.repository}.aside`, lab.repository)
    }
  })

  test.each<[string, (object: string, repository: string) => Promise<void>]>([
    ['is not mounted', (_object, repository) => rename(repository, `${repository}.aside`)],
    ['does not have it', (object) => rm(object)],
    ['has it damaged', flipABit],
  ])('takes the segment from the second repository when the first %s', async (_what, damage) => {
    const second = join(lab.scratch.path, 'second')
    await lab.writeConfiguration((configuration) => {
      configuration.repositories.second = { type: 'local', path: second }
      configuration.clusters.main!.repositories = ['local', 'second']
    })
    try {
      for (const name of segments) {
        await lab.pgrecall(['wal-push', join(lab.cluster.dataDirectory, 'pg_wal', name)])
      }
      await damage(objectOf(lab, segments[1]!), lab.repository)
      expect((await fetchInto(recovery, segments[1]!)).exitCode).toBe(0)
      const original = await readFile(join(lab.cluster.dataDirectory, 'pg_wal', segments[1]!))
      expect((await readFile(join(recovery, 'RECOVERYXLOG'))).equals(original)).toBe(true)
    } finally {
      const aside = `${lab.repository}.aside`
      if (existsSync(aside)) await rename(aside, lab.repository)
      await lab.writeConfiguration()
      await rm(second, { recursive: true })
      await rm(join(recovery, 'RECOVERYXLOG'), { force: true })
    }
  })

  test('stops a recovery when its own configuration or command line is wrong', async () => {
    const broken = await lab.scratch.file('broken.yaml', 'repositories: [')
    for (const args of [
      ['--config', broken, 'wal-fetch', segments[1]!, 'RECOVERYXLOG'],
      ['--cluster', 'other', 'wal-fetch', segments[1]!, 'RECOVERYXLOG'],
      ['wal-fetch', '--nonsense', segments[1]!, 'RECOVERYXLOG'],
      ['wal-fetch', segments[1]!, 'no/such/folder/RECOVERYXLOG'],
    ]) {
      expect((await lab.pgrecall(args, { cwd: recovery })).exitCode).toBe(200)
      expect((await lab.pgrecall(args, { cwd: standby })).exitCode).toBe(1)
    }
  })
})

async function flipABit(object: string): Promise<void> {
  const bytes = await readFile(object)
  bytes[bytes.length >> 1]! ^= 1
  await writeFile(object, bytes)
}
