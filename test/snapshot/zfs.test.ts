import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { ZfsOptions } from '../../src/snapshot/options.ts'
import { NAME, PREFIX, patience } from './ours.ts'
import { programFailed, Recorded } from './recorded.ts'

const zfs: ZfsOptions = { provider: 'zfs', asRoot: [] }

/** A host with two datasets, each mounted on a folder of its own; formats as in zfs-list(8) with -H. */
async function host() {
  const recorded = await Recorded.create()
  const datasets = new Map([
    ['tank/pg', join(recorded.folder, 'pg')],
    ['tank/space', join(recorded.folder, 'space')],
  ])
  const data = join(datasets.get('tank/pg')!, '15', 'main')
  const space = datasets.get('tank/space')!
  for (const folder of [data, space]) await mkdir(folder, { recursive: true })
  for (const [dataset, folder] of datasets) recorded.mount(folder, 'zfs', dataset)
  const existing = ['tank/pg@autosnap_2026-11-21_00:00:00_daily']
  recorded.answer = async (line) => {
    const [, verb, ...words] = line.replace(/^sudo -n /, '').split(' ')
    const last = words.at(-1)!
    const [dataset, name] = last.split('@')
    switch (verb) {
      case 'list':
        return existing.filter((one) => one.startsWith(`${last}@`)).join('\n')
      case 'snapshot':
        if (existing.includes(last))
          throw programFailed(line, `cannot create snapshot '${last}': dataset already exists`)
        existing.push(last)
        await mkdir(join(datasets.get(dataset!)!, '.zfs', 'snapshot', name!, '15', 'main'), {
          recursive: true,
        })
        return ''
      case 'destroy':
        if (!existing.includes(last)) throw programFailed(line, 'could not find any snapshots to destroy')
        existing.splice(existing.indexOf(last), 1)
        return ''
    }
    throw new Error(`nobody recorded ${line}`)
  }
  return { recorded, data, space, existing, [Symbol.asyncDispose]: () => recorded[Symbol.asyncDispose]() }
}

test('each dataset gets a snapshot, seen in its hidden folder', async () => {
  await using at = await host()
  const { recorded, data, space } = at
  const set = await recorded.open({ ...zfs, asRoot: ['sudo', '-n'] }).create([data, space], NAME, patience())
  expect(set.views.get(data)).toBe(join(recorded.folder, 'pg', '.zfs', 'snapshot', `${NAME}-1`, '15', 'main'))
  expect(set.views.get(space)).toBe(join(space, '.zfs', 'snapshot', `${NAME}-2`))
  expect(recorded.takeLines()).toEqual([
    `sudo -n zfs snapshot tank/pg@${NAME}-1`,
    `sudo -n zfs snapshot tank/space@${NAME}-2`,
  ])
  await set.verify()
  await set.remove()
  expect(recorded.takeLines()).toEqual([
    'sudo -n zfs list -H -t snapshot -o name -d 1 tank/space',
    `sudo -n zfs destroy tank/space@${NAME}-2`,
    'sudo -n zfs list -H -t snapshot -o name -d 1 tank/pg',
    `sudo -n zfs destroy tank/pg@${NAME}-1`,
  ])
  await set.remove()
  expect(at.existing).toEqual(['tank/pg@autosnap_2026-11-21_00:00:00_daily'])
})

test('the sweep removes what killed runs left, and nothing of others', async () => {
  await using at = await host()
  const { recorded, data, space } = at
  const snapshots = recorded.open(zfs)
  await snapshots.create([data, space], NAME, patience())
  at.existing.push('tank/pg@pgrecall-0123abcde-1')
  expect(await snapshots.sweep([data, space], PREFIX)).toEqual([`${NAME}-1`, `${NAME}-2`])
  expect(at.existing).toEqual(['tank/pg@autosnap_2026-11-21_00:00:00_daily', 'tank/pg@pgrecall-0123abcde-1'])
})

test('a removal that fails is told, and the others are removed all the same', async () => {
  await using at = await host()
  const { recorded, data, space } = at
  const set = await recorded.open(zfs).create([data, space], NAME, patience())
  const { answer } = recorded
  recorded.answer = (line) => {
    if (!line.includes('destroy tank/space')) return answer(line)
    throw programFailed(line, `cannot destroy snapshot tank/space@${NAME}-2: dataset is busy`)
  }
  await expect(set.remove()).rejects.toMatchObject({
    kind: 'failed',
    message: expect.stringMatching(
      /^cannot remove the snapshot pgrecall-\S+-2 of dataset tank\/space: .*dataset is busy$/,
    ),
  })
  expect(at.existing).toHaveLength(2)
})

test('a snapshot that cannot be seen is an error, and is removed', async () => {
  await using at = await host()
  const { recorded, data } = at
  recorded.answer = (line) => (line.includes('list') ? `tank/pg@${NAME}-1\n` : '')
  await expect(recorded.open(zfs).create([data], NAME, patience())).rejects.toThrow(
    /^the snapshot was made, but cannot be read where .* must be in it: ENOENT/,
  )
  expect(recorded.takeLines().at(-1)).toBe(`zfs destroy tank/pg@${NAME}-1`)
})

test('refused: another file system, a child dataset inside, a bind mount of a part', async () => {
  await using at = await host()
  const { recorded, data } = at
  const snapshots = recorded.open(zfs)
  await expect(snapshots.check([recorded.folder])).rejects.toThrow(
    `${recorded.folder} is on ext4, not on ZFS`,
  )
  recorded.mount(join(data, 'pg_wal'), 'zfs', 'tank/pg/wal')
  await snapshots.check([data])
  recorded.mount(join(data, 'base'), 'zfs', 'tank/pg/base')
  await expect(snapshots.check([data])).rejects.toThrow('another volume is mounted there')
  recorded.mount(data, 'zfs', 'tank/pg', '/15/main')
  await expect(snapshots.check([data])).rejects.toThrow(`${data} shows only /15/main of the dataset tank/pg`)
})
