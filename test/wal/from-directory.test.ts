import { existsSync } from 'node:fs'
import { readdir, readFile, truncate, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { answerOf, failureOf } from '../backup/commands.ts'
import { Lab } from '../lab/lab.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { giveToLabUser } from '../lab/user.ts'
import { copyTo, finishSegment, objectOf, SMALL_SEGMENTS, withOtherContent } from './segments.ts'

let lab: Lab
let folder: string
let segments: string[]

const pathOf = (name: string) => join(lab.cluster.dataDirectory, 'pg_wal', name)

describe.skipIf(!findPrograms() && !process.env.CI)('wal-push --from-directory', () => {
  beforeAll(async () => {
    lab = await Lab.create(SMALL_SEGMENTS)
  })
  afterAll(() => lab?.[Symbol.asyncDispose]())

  beforeEach(async (context) => {
    requireServer(context)
    folder = await lab.scratch.folder(`archive-${context.task.id}`)
    segments = []
    for (let n = 0; n < 6; n++) segments.push(await finishSegment(lab))
    for (const name of segments) await copyTo(folder, pathOf(name))
  })

  test('archives every WAL file, and leaves the folder as it is', async () => {
    const history = join(folder, '00000002.history')
    await writeFile(history, '1\t0/3000000\tno recovery target specified\n')
    await giveToLabUser(history)
    await writeFile(join(folder, 'notes.txt'), 'not WAL')
    const before = await readdir(folder)
    expect(await answerOf(lab, ['wal-push', '--from-directory', folder])).toMatchObject({
      stored: 7,
      existed: 0,
      removed: 0,
      failed: [],
    })
    for (const name of [...segments, '00000002.history']) expect(existsSync(objectOf(lab, name))).toBe(true)
    expect(await readdir(folder)).toEqual(before)
    const again = await lab.pgrecall(['wal-push', '--from-directory', folder])
    expect(again.stdout).toContain('0 stored, 7 there already')
  })

  test('removes what is stored, and only that', async () => {
    const [conflicting] = segments as [string]
    await answerOf(lab, ['wal-push', pathOf(conflicting)])
    await copyTo(folder, pathOf(conflicting), withOtherContent)
    const { exitCode, stderr, stdout } = await lab.pgrecall([
      'wal-push',
      '--from-directory',
      folder,
      '--remove',
    ])
    expect(exitCode).toBe(8)
    expect(stderr).toContain(`${conflicting} is already in repository "local" with other bytes`)
    expect(stdout).toContain('5 stored, 0 there already, 5 removed, 1 failed and stay')
    expect(await readdir(folder)).toEqual([conflicting])
  })

  test('leaves a segment alone that is still being copied', async () => {
    const [writing] = segments as [string]
    await truncate(join(folder, writing), 500_000)
    const answer = await lab.pgrecall(['wal-push', '--from-directory', folder, '--remove'])
    expect(answer).toMatchObject({ exitCode: 0 })
    expect(answer.stderr).toContain(`${writing} is not whole yet`)
    expect(await readdir(folder)).toEqual([writing])
    // One that stays so is no copy under way.
    await utimes(join(folder, writing), 1, 1)
    expect((await lab.pgrecall(['wal-push', '--from-directory', folder, '--remove'])).exitCode).toBe(9)
  })

  test('leaves a history alone that is still being copied', async () => {
    const history = join(folder, '00000003.history')
    await writeFile(history, '')
    await giveToLabUser(history)
    const answer = await lab.pgrecall(['wal-push', '--from-directory', folder, '--remove'])
    expect(answer).toMatchObject({
      exitCode: 0,
      stderr: expect.stringContaining('00000003.history is not whole'),
    })
    expect(await readdir(folder)).toEqual(['00000003.history'])
    expect(existsSync(objectOf(lab, '00000003.history'))).toBe(false)
  })

  test('leaves a segment alone that pg_receivewal receives, and takes the last one of a timeline', async () => {
    const [name] = segments as [string]
    const partial = `${name}.partial`
    await copyTo(folder, pathOf(name), undefined, partial)
    await answerOf(lab, ['wal-push', '--from-directory', folder, '--remove'])
    expect(await readdir(folder)).toEqual([partial])
    await writeFile(join(folder, '00000004.history'), '3\t0/3000000\tno recovery target specified\n')
    await giveToLabUser(join(folder, '00000004.history'))
    await answerOf(lab, ['wal-push', '--from-directory', folder, '--remove'])
    expect(await readdir(folder)).toEqual([])
    expect(existsSync(objectOf(lab, partial))).toBe(true)
  })

  test('does not wait for a pipe', async () => {
    const name = segments[0]!.replace(/.$/, 'F')
    await execa('mkfifo', [join(folder, name)])
    const answer = await lab.pgrecall(['wal-push', '--from-directory', folder])
    expect(answer).toMatchObject({ exitCode: 2, stderr: expect.stringContaining(`${name} is not a file`) })
  })

  test('keeps everything when the repository is away', async () => {
    await lab.writeConfiguration(({ repositories }) => {
      repositories.local!.path = join(lab.scratch.path, 'nowhere', 'repository')
    })
    expect((await lab.pgrecall(['wal-push', '--from-directory', folder, '--remove'])).exitCode).toBe(7)
    expect(await readdir(folder)).toEqual(segments)
    await lab.writeConfiguration()
  })

  test('is for folders of copies', async () => {
    const own = join(lab.cluster.dataDirectory, 'pg_wal')
    expect(await failureOf(lab, ['wal-push', '--from-directory', own, '--remove'])).toMatchObject({
      exitCode: 5,
      message: expect.stringContaining("is a server's own pg_wal"),
    })
    expect(await failureOf(lab, ['wal-push', '--from-directory', join(folder, 'none')])).toMatchObject({
      exitCode: 2,
    })
    expect(await failureOf(lab, ['wal-push'])).toMatchObject({ exitCode: 2 })
    expect(await failureOf(lab, ['wal-push', '--remove', 'pg_wal/x'])).toMatchObject({ exitCode: 2 })
    expect(await readFile(pathOf(segments[0]!))).toHaveLength(2 ** 20)
  })
})
