import { join, relative } from 'node:path'
import { PgrecallError } from '../errors.ts'
import { mountOf, requireOneVolume } from './mounts.ts'
import type { ZfsOptions } from './options.ts'
import type { Host, Provider, Volume } from './snapshots.ts'

interface Dataset extends Volume {
  dataset: string
  mountpoint: string
}

/**
 * Snapshots of ZFS datasets, seen in the hidden folder `.zfs` of each dataset.
 * @see zfs-snapshot(8), zfs-list(8), zfs-destroy(8)
 */
export function zfs(options: ZfsOptions, host: Host): Provider<Dataset> {
  const run = (...args: string[]) => host.run([...options.asRoot, 'zfs', ...args])
  const list = async ({ dataset }: Dataset) => {
    // -H: no heading; -d 1: not those of child datasets.
    const { stdout } = await run('list', '-H', '-t', 'snapshot', '-o', 'name', '-d', '1', dataset)
    return stdout
      .split('\n')
      .filter((line) => line.startsWith(`${dataset}@`))
      .map((line) => line.slice(dataset.length + 1))
  }
  return {
    async volumeOf(folder) {
      const mounts = await host.mounts()
      const { type, source, root, target } = mountOf(mounts, folder)
      if (type !== 'zfs') throw new PgrecallError('refused', `${folder} is on ${type}, not on ZFS`)
      if (root !== '/') {
        throw new PgrecallError('refused', `${target} shows only ${root} of the dataset ${source}`, {
          hint: 'snapshots are seen below the mount point of the dataset itself: mount it as a whole',
        })
      }
      requireOneVolume(mounts, folder, host.isEmptied)
      return { id: `dataset ${source}`, dataset: source, mountpoint: target }
    },
    async make({ dataset }, name) {
      await run('snapshot', `${dataset}@${name}`)
    },
    viewOf: ({ mountpoint }, name, folder) =>
      join(mountpoint, '.zfs', 'snapshot', name, relative(mountpoint, folder)),
    async verify() {
      // What a snapshot holds can only be lost with the pool.
    },
    async remove(volume, name) {
      if ((await list(volume)).includes(name)) await run('destroy', `${volume.dataset}@${name}`)
    },
    list,
  }
}
