import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, stat, symlink, utimes, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { expect, test } from 'vitest'
import { requireRoom, StagingFolder } from '../../src/logical/staging.ts'
import { Scratch } from '../lab/scratch.ts'

/** The name that another process would have made here. */
const nameOf = (own: string, pid: number, start = '1') =>
  basename(own).replace(/staging-\d+-\d*-/, `staging-${pid}-${start}-`)

async function deadPid(): Promise<number> {
  const child = spawn('true')
  await once(child, 'close')
  return child.pid!
}

test('a folder is for its owner only, and goes with all that is in it', async () => {
  await using scratch = await Scratch.create()
  let path: string
  {
    await using folder = await StagingFolder.make(scratch.path)
    path = folder.path
    expect((await stat(path)).mode & 0o777).toBe(0o700)
    await mkdir(join(path, 'dump'))
    await writeFile(join(path, 'dump', 'toc.dat'), 'rows')
  }
  expect(await readdir(scratch.path)).not.toContain(basename(path))
})

test('what a killed process left goes, and nothing else', async () => {
  await using scratch = await Scratch.create()
  await using living = await StagingFolder.make(scratch.path)
  const killed = join(scratch.path, nameOf(living.path, await deadPid()))
  // Its number was given to another process since.
  const reused = join(scratch.path, nameOf(living.path, process.pid))
  const elsewhere = join(scratch.path, basename(living.path).replace(/[0-9a-f]{16}-/, '0123456789abcdef-'))
  const silent = elsewhere.replace(/.{12}$/, 'aaaaaaaaaaaa')
  const link = killed.replace(/.{12}$/, 'bbbbbbbbbbbb')
  const foreign = join(scratch.path, 'pgrecall-staging-of-somebody')
  for (const path of [killed, reused, elsewhere, silent, foreign]) {
    await mkdir(path)
    await writeFile(join(path, 'toc.dat'), 'rows')
  }
  await symlink(foreign, link)
  const before = new Date(Date.now() - 25 * 60 * 60 * 1000)
  await utimes(join(silent, 'toc.dat'), before, before)
  await utimes(silent, before, before)
  await using _next = await StagingFolder.make(scratch.path)
  const left = await readdir(scratch.path)
  expect(left).toEqual(
    expect.arrayContaining([living.path, elsewhere, foreign, link].map((path) => basename(path))),
  )
  for (const path of [killed, reused, silent]) expect(left).not.toContain(basename(path))
  expect(await readdir(foreign)).toEqual(['toc.dat'])
})

test('a place without room is refused with figures, and so is one that is none', async () => {
  await using scratch = await Scratch.create()
  await requireRoom(scratch.path, 1, 'the dump')
  await expect(requireRoom(scratch.path, 2 ** 60, 'the dump of "shop"')).rejects.toMatchObject({
    kind: 'refused',
    message: expect.stringMatching(
      / has \d+ MiB free, and the dump of "shop" may need 1099511627776 MiB there$/,
    ),
  })
  await writeFile(join(scratch.path, 'file'), '')
  for (const place of ['nowhere', 'file'])
    await expect(requireRoom(join(scratch.path, place), 1, 'the dump')).rejects.toMatchObject({
      kind: 'refused',
      message: expect.stringMatching(/^nothing can be staged in /),
    })
  await expect(StagingFolder.make(join(scratch.path, 'nowhere'))).rejects.toMatchObject({ kind: 'refused' })
})
