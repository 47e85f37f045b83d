import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { CommandsOptions } from '../../src/snapshot/options.ts'
import { isAlive } from '../lab/processes.ts'
import { LoopDisk } from './loop-disk.ts'
import { NAME, PREFIX, patience, snapshotsOf } from './ours.ts'
import { Recorded } from './recorded.ts'

/** A copy stands for a snapshot here; the programs and their arguments are real. */
function copies(store: string): CommandsOptions {
  return {
    provider: 'commands',
    create: ['cp', '--archive', '{folder}', `${store}/{name}`],
    remove: ['rm', '--recursive', `${store}/{name}`],
    list: ['ls', '-1', store],
    path: `${store}/{name}`,
  }
}

async function folders(root: string) {
  const folder = join(root, `the "data" of {name} in Größe's $HOME`)
  const store = join(root, 'the store')
  for (const path of [folder, store]) await mkdir(path)
  await writeFile(join(folder, 'kept'), 'before')
  return { folder, store }
}

test('the programs get their arguments as they are', async () => {
  await using scratch = await Recorded.create()
  const { folder, store } = await folders(scratch.folder)
  const snapshots = snapshotsOf(copies(store))
  await snapshots.check([folder])
  const set = await snapshots.create([folder], NAME, patience())
  await writeFile(join(folder, 'kept'), 'after')
  expect(await readFile(join(set.views.get(folder)!, 'kept'), 'utf8')).toBe('before')
  await set.verify()
  await set.remove()
  expect(await readdir(store)).toEqual([])
})

test('mounted on a folder of ours, and removed in order', async (context) => {
  await using disk = await LoopDisk.mount(context, 'ext4')
  const { folder, store } = await folders(disk.outside)
  const mountFolder = join(disk.outside, 'mnt')
  await mkdir(mountFolder)
  const options: CommandsOptions = {
    ...copies(store),
    mount: ['mount', '--bind', `${store}/{name}`, '{mountpoint}'],
    unmount: ['umount', '{mountpoint}'],
    path: '{mountpoint}',
    mountFolder,
  }
  const set = await snapshotsOf(options).create([folder], NAME, patience())
  expect(set.views.get(folder)).toBe(join(mountFolder, `${NAME}-1`))
  expect(await readdir(set.views.get(folder)!)).toEqual(['kept'])
  // Not by its maker but by the next run, as after a kill.
  expect(await snapshotsOf(options).sweep([folder], PREFIX)).toEqual([`${NAME}-1`])
  expect([...(await readdir(store)), ...(await readdir(mountFolder))]).toEqual([])

  const broken = snapshotsOf({ ...options, mount: ['false'] })
  await expect(broken.create([folder], NAME, patience())).rejects.toThrow('"false" failed with exit code 1')
  expect([...(await readdir(store)), ...(await readdir(mountFolder))]).toEqual([])
})

test('an abort ends a program that takes long, and what it left is removed', async () => {
  await using scratch = await Recorded.create()
  const { folder, store } = await folders(scratch.folder)
  const controller = new AbortController()
  const [child, finished] = [join(scratch.folder, 'child'), join(scratch.folder, 'finished')]
  const script = 'sleep 60 & echo $! > "$2"; mkdir "$1"; wait; touch "$3"'
  const create = ['sh', '-c', script, 'sh', `${store}/{name}`, child, finished]
  const created = snapshotsOf({ ...copies(store), create }).create([folder], NAME, controller.signal)
  const outcome = expect(created).rejects.toThrow('stopped by a person')
  await expect.poll(() => readdir(store), { timeout: 30_000 }).toEqual([`${NAME}-1`])
  controller.abort(new Error('stopped by a person'))
  await outcome
  expect(isAlive(Number(await readFile(child, 'utf8')))).toBe(false)
  expect(existsSync(finished)).toBe(false)
  expect(await readdir(store)).toEqual([])
})

test('a path that shows the folder itself is no snapshot', async () => {
  await using scratch = await Recorded.create()
  const { folder, store } = await folders(scratch.folder)
  const snapshots = snapshotsOf({ ...copies(store), path: '{folder}' })
  await expect(snapshots.create([folder], NAME, patience())).rejects.toThrow(
    `${folder} is not a snapshot of ${folder}, but the folder itself`,
  )
  expect(await readdir(store)).toEqual([])
})

test('without a list nothing is swept, and a list that does not work is told early', async () => {
  await using scratch = await Recorded.create()
  const { folder, store } = await folders(scratch.folder)
  const { list: _, ...withoutList } = copies(store)
  await snapshotsOf(withoutList).create([folder], NAME, patience())
  expect(await snapshotsOf(withoutList).sweep([folder], PREFIX)).toEqual([])
  expect(await readdir(store)).toEqual([`${NAME}-1`])
  await expect(
    snapshotsOf({ ...withoutList, list: ['no-such-program'] }).check([folder]),
  ).rejects.toMatchObject({
    kind: 'refused',
    message: 'the program no-such-program is not installed, or may not be run',
  })
})
