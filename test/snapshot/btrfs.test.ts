import { chmod, chown, mkdir, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { expect, test } from 'vitest'
import type { BtrfsOptions } from '../../src/snapshot/options.ts'
import { programRunner } from '../../src/snapshot/run.ts'
import { labUser } from '../lab/user.ts'
import { startHolder } from './holder.ts'
import { LoopDisk } from './loop-disk.ts'
import { NAME, PREFIX, patience, snapshotsOf } from './ours.ts'

const btrfs: BtrfsOptions = { provider: 'btrfs', asRoot: [] }

test('a view is frozen and read-only while the folder goes on, until it is removed', async (context) => {
  await using disk = await LoopDisk.mount(context, 'btrfs')
  const folder = join(await disk.subvolume(`the "data" of Größe's $HOME`), '15', 'main; rm -rf')
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'kept'), 'before')
  await writeFile(join(folder, 'dropped'), 'before')
  await symlink(folder, join(disk.outside, 'link'))
  const asked = join(disk.outside, 'link')
  const snapshots = snapshotsOf(btrfs)
  await snapshots.check([asked])

  const set = await snapshots.create([asked], NAME, patience())
  await writeFile(join(folder, 'kept'), 'after')
  await rm(join(folder, 'dropped'))
  await writeFile(join(folder, 'new'), 'after')
  const view = set.views.get(asked)!
  expect(await readFile(join(view, 'kept'), 'utf8')).toBe('before')
  expect((await readdir(view)).toSorted()).toEqual(['dropped', 'kept'])
  await expect(writeFile(join(view, 'kept'), 'by us')).rejects.toThrow('EROFS')
  await set.verify()

  await set.remove()
  expect(await readdir(disk.path)).toEqual([`the "data" of Größe's $HOME`])
  await set.remove()
})

test('folders of one subvolume share a snapshot, others get their own', async (context) => {
  await using disk = await LoopDisk.mount(context, 'btrfs')
  const data = join(await disk.subvolume('pg'), 'data')
  const near = join(disk.path, 'pg', 'near')
  const far = await disk.subvolume('far')
  for (const folder of [data, near]) await mkdir(folder)
  for (const folder of [data, near, far]) await writeFile(join(folder, 'which'), folder)

  const set = await snapshotsOf(btrfs).create([data, near, far], NAME, patience())
  expect(set.snapshots).toEqual([
    { name: `${NAME}-1`, volume: `subvolume ${join(disk.path, 'pg')}` },
    { name: `${NAME}-2`, volume: `subvolume ${far}` },
  ])
  for (const [folder, view] of set.views) {
    expect(view).not.toBe(folder)
    expect(await readFile(join(view, 'which'), 'utf8')).toBe(folder)
  }
  await set.remove()
  expect((await readdir(disk.path)).toSorted()).toEqual(['far', 'pg'])
})

test('what would be missing in the snapshot is refused, unless nobody reads it there', async (context) => {
  await using disk = await LoopDisk.mount(context, 'btrfs')
  const folder = await disk.subvolume('pg')
  const snapshots = snapshotsOf(btrfs)
  await disk.subvolume('pg', 'pg_wal')
  await snapshots.check([folder])

  await mkdir(join(folder, 'base'))
  const inner = await disk.subvolume('pg', 'base', '16384')
  await expect(snapshots.check([folder])).rejects.toMatchObject({
    kind: 'refused',
    message: `a snapshot of ${folder} would not contain ${inner}: it is a subvolume of its own`,
  })
  await execa('btrfs', ['subvolume', 'delete', inner])

  await mkdir(inner)
  await execa('mount', ['-t', 'tmpfs', 'pgrecall-test', inner])
  await expect(snapshots.check([folder])).rejects.toThrow(`${inner}: it is another file system`)
})

test('snapshots go where the configuration says, but not into what they are made of', async (context) => {
  await using disk = await LoopDisk.mount(context, 'btrfs')
  const data = await disk.folder('data')
  const place = await disk.folder('snapshots')
  const elsewhere = 'set backup.snapshot.snapshotFolder to a folder on the same file system'
  await expect(snapshotsOf(btrfs).check([data])).rejects.toMatchObject({
    kind: 'refused',
    message: `${disk.outside} is not on the file system of ${disk.path}`,
    hint: expect.stringContaining(elsewhere),
  })
  const inside = snapshotsOf({ ...btrfs, snapshotFolder: data })
  await expect(inside.check([data])).rejects.toThrow(`the folder for snapshots, ${data}, lies inside ${data}`)

  const set = await snapshotsOf({ ...btrfs, snapshotFolder: place }).create([data], NAME, patience())
  expect(set.views.get(data)).toBe(join(place, `${NAME}-1`, 'data'))
  await set.remove()
})

test('a folder on another file system, or without its subvolume, is refused', async (context) => {
  await using disk = await LoopDisk.mount(context, 'btrfs')
  const plain = join(disk.outside, 'plain')
  await mkdir(plain)
  await expect(snapshotsOf(btrfs).check([plain])).rejects.toThrow(/^.*plain is on \w+, not on btrfs$/)
  await expect(snapshotsOf(btrfs).check([join(plain, 'none')])).rejects.toThrow(/^cannot find the folder/)

  // The subvolume around it is another one.
  const shown = join(await disk.subvolume('around'), 'shown')
  await mkdir(shown)
  await execa('mount', ['--bind', await disk.folder('deep', 'data'), shown])
  await expect(snapshotsOf(btrfs).check([shown])).rejects.toThrow(
    `the root of the subvolume that holds ${shown} is not mounted above it`,
  )
})

test('when a later snapshot fails, the earlier ones are removed', async (context) => {
  await using disk = await LoopDisk.mount(context, 'btrfs')
  const folders = [await disk.subvolume('one'), await disk.subvolume('two')]
  await writeFile(join(disk.path, `${NAME}-2`), 'in the way')
  await expect(snapshotsOf(btrfs).create(folders, NAME, patience())).rejects.toMatchObject({
    kind: 'failed',
    message: expect.stringMatching(/^"btrfs subvolume snapshot .* failed with exit code 1: .*exists/),
  })
  expect((await readdir(disk.path)).toSorted()).toEqual(['one', `${NAME}-2`, 'two'].toSorted())
})

test.for([1, 2])('an abort while the first of %i snapshots is made removes it', async (count, context) => {
  await using disk = await LoopDisk.mount(context, 'btrfs')
  const names = ['one', 'two'].slice(0, count)
  const folders = await Promise.all(names.map((name) => disk.subvolume(name)))
  const controller = new AbortController()
  const real = programRunner()
  const lines: string[] = []
  const snapshots = snapshotsOf(btrfs, async (argv, options) => {
    lines.push(argv.slice(0, 3).join(' '))
    const answer = await real(argv, options)
    controller.abort(new Error('stopped by a person'))
    return answer
  })
  await expect(snapshots.create(folders, NAME, controller.signal)).rejects.toThrow('stopped by a person')
  expect(lines).toEqual(['btrfs subvolume snapshot', 'btrfs property set', 'btrfs subvolume delete'])
  expect((await readdir(disk.path)).toSorted()).toEqual(names)
})

test('what a killed run left is found and removed, what others made is not', async (context) => {
  await using disk = await LoopDisk.mount(context, 'btrfs')
  const folders = [await disk.subvolume('one'), await disk.subvolume('two')]
  for (const name of [NAME, 'pgrecall-0123abcde-other']) {
    const holder = await startHolder({ options: btrfs, folders, name })
    expect(holder.views?.size).toBe(2)
    await holder.kill()
  }
  // Of our name, but no snapshot.
  await mkdir(join(disk.path, `${PREFIX}notes`))
  expect((await snapshotsOf(btrfs).sweep(folders, PREFIX)).toSorted()).toEqual([`${NAME}-1`, `${NAME}-2`])
  const left = ['one', 'two', `${PREFIX}notes`, 'pgrecall-0123abcde-other-1', 'pgrecall-0123abcde-other-2']
  expect((await readdir(disk.path)).toSorted()).toEqual(left.toSorted())
  expect(await snapshotsOf(btrfs).sweep(folders, PREFIX)).toEqual([])
})

test.for([
  { mountOptions: ['user_subvol_rm_allowed'], works: true },
  { mountOptions: [], works: false },
])('without root, mounted with [$mountOptions]: $works', async ({ mountOptions, works }, context) => {
  await using disk = await LoopDisk.mount(context, 'btrfs', mountOptions)
  const { uid, gid } = labUser ?? context.skip('there is no user to be')
  const data = await disk.subvolume('pg')
  await writeFile(join(data, 'PG_VERSION'), '15')
  await chmod(disk.outside, 0o755)
  for (const path of [disk.path, data]) await chown(path, uid, gid)

  const holder = await startHolder({ options: btrfs, folders: [data], name: NAME }, { uid, gid })
  expect(holder.views !== undefined).toBe(works)
  if (works) {
    await rename(join(data, 'PG_VERSION'), join(data, 'gone'))
    expect(await readdir(holder.views!.get(data)!)).toEqual(['PG_VERSION'])
  }
  const { exitCode, stderr } = await holder.end()
  if (works) expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' })
  else expect(stderr).toContain('this user may make snapshots of')
  expect(await readdir(disk.path)).toEqual(['pg'])
})
