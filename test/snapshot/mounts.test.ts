import { expect, test } from 'vitest'
import { isWithin, mountOf, parseMounts, readMounts } from '../../src/snapshot/mounts.ts'

const TABLE = `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
43 22 0:39 / /srv/m\\040b rw,relatime shared:1 master:2 - btrfs /dev/loop0 rw,subvolid=5,subvol=/
44 22 8:2 / /srv/pg rw - xfs /dev/sdb rw
45 22 8:3 /inner /srv/pg rw - ext4 /dev/sdc rw
`

test('the table of mounts, with and without optional fields', () => {
  expect(parseMounts(TABLE)[1]).toEqual({
    target: '/srv/m b',
    root: '/',
    type: 'btrfs',
    source: '/dev/loop0',
    device: '0:39',
    options: ['rw', 'subvolid=5', 'subvol=/'],
  })
  expect(parseMounts(TABLE)).toHaveLength(4)
})

test.each([
  ['/srv/m b/pg', '/dev/loop0'],
  ['/srv/m b', '/dev/loop0'],
  ['/srv/m bc', '/dev/sda1'],
  ['/', '/dev/sda1'],
  // The later mount hides the earlier one.
  ['/srv/pg/data', '/dev/sdc'],
])('%s is on %s', (path, source) => {
  expect(mountOf(parseMounts(TABLE), path).source).toBe(source)
})

test('within a folder is the folder and what lies below it', () => {
  expect(isWithin('/a', '/a')).toBe(true)
  expect(isWithin('/a', '/a/..b')).toBe(true)
  expect(isWithin('/a/b', '/a/bc')).toBe(false)
  expect(isWithin('/a/b', '/a')).toBe(false)
})

test('this host has a table of mounts', async () => {
  expect(mountOf(await readMounts(), '/').target).toBe('/')
})
