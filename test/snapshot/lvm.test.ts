import { mkdir, readdir, rm, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { LvmOptions } from '../../src/snapshot/options.ts'
import { NAME, PREFIX, patience } from './ours.ts'
import { programFailed, Recorded } from './recorded.ts'

const FIELDS = 'lvs --reportformat json -o vg_name,lv_name,lv_attr'
const DEVICE = '/dev/mapper/vg--data-pg--main'
const SNAPSHOT = '/dev/mapper/vg--data-pgrecall--0123abcd--20261121T120000Z--full--1'

/** A host with the volume group vg-data; formats recorded with LVM 2.03.16. */
async function host(origin = { lv_name: 'pg-main', lv_attr: '-wi-ao----' }) {
  const recorded = await Recorded.create()
  const mountFolder = join(recorded.folder, 'mnt')
  const target = join(recorded.folder, 'lib')
  const data = join(target, 'main')
  for (const folder of [mountFolder, data]) await mkdir(folder, { recursive: true })
  recorded.mount(target, 'ext4', DEVICE)
  const volumes = [origin]
  let overflowed = false
  recorded.answer = async (line) => {
    const words = line.replace(/^sudo -n /, '').split(' ')
    const last = words.at(-1)!
    switch (words[0]) {
      case 'lvs': {
        const found = volumes.filter(
          ({ lv_name }) =>
            ['vg-data', `vg-data/${lv_name}`].includes(last) || (last === DEVICE && lv_name === 'pg-main'),
        )
        if (found.length === 0)
          throw programFailed(line, 'Volume group "sda1" not found; Cannot process volume group sda1')
        return report(
          found.map((row) => (overflowed && row !== origin ? { ...row, lv_attr: 'swi-Ios---' } : row)),
        )
      }
      case 'lvcreate':
        volumes.push({ lv_name: words[words.indexOf('--name') + 1]!, lv_attr: 'swi-a-s---' })
        return `  Logical volume "${volumes.at(-1)!.lv_name}" created.`
      case 'mkdir':
        await mkdir(last)
        return ''
      case 'rmdir':
        await rmdir(last)
        return ''
      case 'mount':
        recorded.mount(last, 'ext4', words.at(-2)!)
        await mkdir(join(last, 'main'))
        return ''
      case 'umount':
        recorded.mounts = recorded.mounts.filter((mount) => !mount.includes(` ${last} `))
        await rm(join(last, 'main'), { recursive: true })
        return ''
      case 'lvremove':
        volumes.splice(
          volumes.findIndex(({ lv_name }) => `vg-data/${lv_name}` === last),
          1,
        )
        return `  Logical volume "${last.slice(8)}" successfully removed.`
    }
    throw new Error(`nobody recorded ${line}`)
  }
  return {
    recorded,
    data,
    mountFolder,
    names: () => volumes.map(({ lv_name }) => lv_name),
    overflow: () => {
      overflowed = true
    },
    [Symbol.asyncDispose]: () => recorded[Symbol.asyncDispose](),
  }
}

function report(rows: { lv_name: string; lv_attr: string }[]): string {
  const lines = rows.map(
    ({ lv_name, lv_attr }) =>
      `                  {"vg_name":"vg-data", "lv_name":"${lv_name}", "lv_attr":"${lv_attr}"}`,
  )
  return `  {
      "report": [
          {
              "lv": [
${lines.join(',\n')}
              ]
          }
      ]
  }`
}

const lvm = (mountFolder: string, more: Partial<LvmOptions> = {}): LvmOptions => ({
  provider: 'lvm',
  asRoot: [],
  size: '20%ORIGIN',
  mountFolder,
  ...more,
})

test('a thick volume: a writable snapshot, mounted read-only, looked at after the copy, removed', async () => {
  await using at = await host()
  const { recorded, data, mountFolder } = at
  const snapshots = recorded.open(lvm(mountFolder, { asRoot: ['sudo', '-n'] }))
  const set = await snapshots.create([data], NAME, patience())
  const mountPoint = join(mountFolder, `${NAME}-1`)
  expect(set.views.get(data)).toBe(join(mountPoint, 'main'))
  expect(set.snapshots).toEqual([{ name: `${NAME}-1`, volume: 'logical volume vg-data/pg-main' }])
  expect(recorded.takeLines()).toEqual([
    `sudo -n ${FIELDS} ${DEVICE}`,
    `sudo -n lvcreate --yes --snapshot --extents 20%ORIGIN --name ${NAME}-1 vg-data/pg-main`,
    `sudo -n mkdir -m 0755 ${mountPoint}`,
    `sudo -n mount -t ext4 -o ro,nosuid,nodev,noexec ${SNAPSHOT} ${mountPoint}`,
  ])
  await set.verify()
  expect(recorded.takeLines()).toEqual([`sudo -n ${FIELDS} vg-data/${NAME}-1`])
  await set.remove()
  expect(recorded.takeLines()).toEqual([
    `sudo -n ${FIELDS} vg-data`,
    `sudo -n umount ${mountPoint}`,
    `sudo -n rmdir ${mountPoint}`,
    `sudo -n lvremove --yes vg-data/${NAME}-1`,
  ])
  expect(await readdir(mountFolder)).toEqual([])
  await set.remove()
  expect(recorded.takeLines()).toEqual([`sudo -n ${FIELDS} vg-data`])
})

test('a thin volume needs no size, but must be activated; XFS needs another mount option', async () => {
  await using at = await host({ lv_name: 'pg-main', lv_attr: 'Vwi-aotz--' })
  const { recorded, data, mountFolder } = at
  recorded.mounts = recorded.mounts.map((mount) => mount.replace(`ext4 ${DEVICE}`, `xfs ${DEVICE}`))
  await recorded.open(lvm(mountFolder)).create([data], NAME, patience())
  expect(recorded.takeLines().slice(1)).toEqual([
    `lvcreate --yes --snapshot --setactivationskip n --name ${NAME}-1 vg-data/pg-main`,
    `mkdir -m 0755 ${join(mountFolder, `${NAME}-1`)}`,
    `mount -t xfs -o ro,nosuid,nodev,noexec,nouuid ${SNAPSHOT} ${join(mountFolder, `${NAME}-1`)}`,
  ])
})

test('a snapshot that overflowed, or is gone, voids what was read', async () => {
  await using at = await host()
  const { recorded, data, mountFolder } = at
  const set = await recorded.open(lvm(mountFolder, { size: '1G' })).create([data], NAME, patience())
  expect(recorded.takeLines()[1]).toContain(' --size 1G ')
  at.overflow()
  await expect(set.verify()).rejects.toMatchObject({
    kind: 'failed',
    message: `the snapshot vg-data/${NAME}-1 has overflowed: what was read from it is void`,
  })
  await set.remove()
  expect(at.names()).toEqual(['pg-main'])
})

test.each(['mount', 'mkdir', 'lvcreate'])('when %s fails, nothing stays', async (program) => {
  await using at = await host()
  const { recorded, data, mountFolder } = at
  const { answer } = recorded
  recorded.answer = (line) => {
    if (!line.startsWith(program)) return answer(line)
    throw programFailed(line, 'it did not work')
  }
  await expect(recorded.open(lvm(mountFolder)).create([data], NAME, patience())).rejects.toThrow(
    'it did not work',
  )
  expect(at.names()).toEqual(['pg-main'])
  expect(await readdir(mountFolder)).toEqual([])
})

test('the sweep unmounts and removes what killed runs left, half made or not', async () => {
  await using at = await host()
  const { recorded, data, mountFolder } = at
  const snapshots = recorded.open(lvm(mountFolder))
  await snapshots.create([data], NAME, patience())
  await recorded.answer(`lvcreate --name ${PREFIX}half-1 vg-data/pg-main`)
  await recorded.answer('lvcreate --name pgrecall-0123abcde-1 vg-data/pg-main')
  // The configuration may have changed meanwhile.
  const later = recorded.open(lvm(recorded.folder))
  expect(await later.sweep([data], PREFIX)).toEqual([`${NAME}-1`, `${PREFIX}half-1`])
  expect(at.names()).toEqual(['pg-main', 'pgrecall-0123abcde-1'])
  expect(await readdir(mountFolder)).toEqual([])
})

test('refused: what is not on LVM, other file systems, other volumes inside', async () => {
  await using at = await host()
  const { recorded, data, mountFolder } = at
  const snapshots = recorded.open(lvm(mountFolder))
  await expect(snapshots.check([mountFolder])).rejects.toMatchObject({
    kind: 'refused',
    message: expect.stringMatching(/^LVM does not show \/dev\/sda1, .*Volume group "sda1" not found/),
  })
  recorded.mount(join(data, 'pg_wal'), 'ext4', '/dev/mapper/vg--data-wal')
  await snapshots.check([data])
  recorded.mount(join(data, 'base'), 'ext4', '/dev/mapper/vg--data-base')
  await expect(snapshots.check([data])).rejects.toThrow(
    `a snapshot of ${data} would not contain ${join(data, 'base')}: another volume is mounted there`,
  )
  recorded.mount(mountFolder, 'btrfs', '/dev/mapper/vg--data-btrfs')
  await expect(snapshots.check([mountFolder])).rejects.toThrow(
    'is on btrfs; LVM snapshots can be of ext4 and XFS',
  )
})
