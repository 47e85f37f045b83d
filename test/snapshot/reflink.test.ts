import { readdirSync, rmSync } from 'node:fs'
import {
  chmod,
  readdir,
  readFile,
  readlink,
  stat,
  statfs,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { execa } from 'execa'
import { expect, test } from 'vitest'
import { openSnapshots } from '../../src/snapshot/open.ts'
import type { ReflinkOptions } from '../../src/snapshot/options.ts'
import { programRunner } from '../../src/snapshot/run.ts'
import { startHolder } from './holder.ts'
import { LoopDisk } from './loop-disk.ts'
import { NAME, PREFIX, patience, snapshotsOf } from './ours.ts'

const reflink: ReflinkOptions = { provider: 'reflink' }
const run = programRunner()

test.for(['xfs', 'btrfs'] as const)(
  '%s: a copy is frozen and takes up no space of its own',
  async (type, context) => {
    await using disk = await LoopDisk.mount(context, type)
    const folder = await disk.folder(`the "data" of Größe's $HOME`, 'base')
    const root = join(folder, '..')
    const large = join(folder, '16384')
    await writeFile(large, Buffer.alloc(32 * 1024 * 1024, 'before'))
    await execa('sync', ['--file-system', disk.path])
    const free = await freeBytes(disk.path)
    const snapshots = snapshotsOf(reflink)
    await snapshots.check([root])

    const set = await snapshots.create([root], NAME, patience())
    expect(free - (await freeBytes(disk.path))).toBeLessThan(8 * 1024 * 1024)
    await writeFile(large, 'after')
    const copy = await readFile(join(set.views.get(root)!, 'base', '16384'))
    expect(copy.equals(Buffer.alloc(32 * 1024 * 1024, 'before'))).toBe(true)
    await set.verify()

    await set.remove()
    expect(await readdir(disk.path)).toEqual([`the "data" of Größe's $HOME`])
    await set.remove()
  },
)

test('files keep mode and time, links stay links, sockets and what is not wanted are left out', async (context) => {
  await using disk = await LoopDisk.mount(context, 'xfs')
  const folder = await disk.folder('pg')
  await disk.folder('pg', 'pg_wal', 'archive_status')
  await disk.folder('pg', 'base', 'pg_wal')
  await writeFile(join(folder, 'pg_wal', '000000010000000000000001'), 'wal')
  await writeFile(join(folder, 'base', 'pg_wal', 'kept'), 'no WAL')
  await writeFile(join(folder, 'PG_VERSION'), '15')
  await chmod(join(folder, 'PG_VERSION'), 0o640)
  await utimes(join(folder, 'PG_VERSION'), 1, 1_700_000_000)
  await symlink('/some/where "else"', join(folder, 'link'))
  const odd = Buffer.concat([Buffer.from(join(folder, 'odd-')), Buffer.from([0xff])])
  await writeFile(odd, 'no UTF-8')
  const server = createServer().listen(join(folder, 'socket'))
  await new Promise((resolve) => server.once('listening', resolve))

  const set = await snapshotsOf(reflink).create([folder], NAME, patience())
  server.close()
  const view = set.views.get(folder)!
  const names = (await readdir(view, 'latin1')).toSorted()
  expect(names).toEqual(['PG_VERSION', 'base', 'link', 'odd-\xff', 'pg_wal'])
  expect(await readdir(join(view, 'pg_wal'))).toEqual([])
  expect(await readdir(join(view, 'base', 'pg_wal'))).toEqual(['kept'])
  const { mode, mtimeMs } = await stat(join(view, 'PG_VERSION'))
  expect([mode & 0o777, mtimeMs]).toEqual([0o640, 1_700_000_000_000])
  expect(await readlink(join(view, 'link'))).toBe('/some/where "else"')
  await set.remove()
})

test('what vanishes while it is copied is left out', async (context) => {
  await using disk = await LoopDisk.mount(context, 'xfs')
  // Folders are read in the order of names.
  const folder = await disk.folder('pg')
  const dropped = await disk.folder('pg', 'dropped')
  await writeFile(join(dropped, '1'), 'x')
  for (let index = 0; index < 200; index++) await writeFile(join(folder, `file-${index}`), 'x')
  const snapshots = openSnapshots(reflink, {
    run,
    // Asked when the folder was seen and not yet read, and the files were listed and not yet copied.
    isEmptied(path) {
      expect(path).toBe('dropped')
      for (const name of readdirSync(folder)) rmSync(join(folder, name), { recursive: true })
      return false
    },
  })
  const set = await snapshots.create([folder], NAME, patience())
  const view = set.views.get(folder)!
  expect(await readdir(join(view, 'dropped'))).toEqual([])
  expect((await readdir(view)).length).toBeLessThan(200)
  await set.remove()
})

test('an abort in the middle stops the copy and leaves nothing', async (context) => {
  await using disk = await LoopDisk.mount(context, 'xfs')
  const folder = await disk.folder('pg')
  await disk.folder('pg', 'base', '16384')
  const controller = new AbortController()
  const seen: string[] = []
  const snapshots = openSnapshots(reflink, {
    run,
    isEmptied(path) {
      seen.push(path)
      controller.abort(new Error('stopped by a person'))
      return false
    },
  })
  await expect(snapshots.create([folder], NAME, controller.signal)).rejects.toThrow('stopped by a person')
  expect(seen).toEqual(['base'])
  expect(await readdir(disk.path)).toEqual(['pg'])
})

test('what a killed run left is found and removed', async (context) => {
  await using disk = await LoopDisk.mount(context, 'xfs')
  const folders = [await disk.folder('pg'), await disk.folder('space')]
  const holder = await startHolder({ options: reflink, folders, name: NAME })
  await holder.kill()
  await disk.folder('pgrecall-0123abcde-other')
  expect((await readdir(disk.path)).length).toBe(5)
  expect((await snapshotsOf(reflink).sweep(folders, PREFIX)).toSorted()).toEqual([`${NAME}-1`, `${NAME}-2`])
  expect((await readdir(disk.path)).toSorted()).toEqual(['pg', 'pgrecall-0123abcde-other', 'space'])
})

test('a file system without reflinks is refused, and so are mounts inside', async (context) => {
  await using plain = await LoopDisk.mount(context, 'ext4')
  await expect(snapshotsOf(reflink).check([await plain.folder('pg')])).rejects.toMatchObject({
    kind: 'refused',
    message: expect.stringContaining(`${plain.path} is on ext4, which does not do reflinks: ENOTSUP`),
  })
  expect((await readdir(plain.path)).toSorted()).toEqual(['lost+found', 'pg'])

  await using disk = await LoopDisk.mount(context, 'xfs')
  const folder = await disk.folder('pg')
  for (const name of ['pg_wal', 'base']) {
    const inner = await disk.folder('pg', name)
    await execa('mount', ['-t', 'tmpfs', 'pgrecall-test', inner])
    const check = snapshotsOf(reflink).check([folder])
    if (name === 'pg_wal') await check
    else await expect(check).rejects.toThrow(`would not contain ${inner}: another volume is mounted there`)
  }
})

test('btrfs: files without copy on write need a folder for copies without it', async (context) => {
  await using disk = await LoopDisk.mount(context, 'btrfs')
  const folder = await disk.folder('pg')
  const place = await disk.folder('copies')
  await execa('chattr', ['+C', folder])
  await writeFile(join(folder, '16384'), Buffer.alloc(8192, 'x'))
  const snapshots = snapshotsOf({ ...reflink, snapshotFolder: place })
  await expect(snapshots.create([folder], NAME, patience())).rejects.toMatchObject({
    message: expect.stringContaining(`cannot clone ${join(folder, '16384')}: EINVAL`),
    hint: expect.stringContaining('chattr +C'),
  })
  expect(await readdir(place)).toEqual([])

  await execa('chattr', ['+C', place])
  await (await snapshots.create([folder], NAME, patience())).remove()
})

async function freeBytes(path: string): Promise<number> {
  const { bfree, bsize } = await statfs(path)
  return bfree * bsize
}
