import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { folderBeside, requireOutside, requireWritable } from './beside.ts'
import { cloneFolder, requireReflinks } from './clone-folder.ts'
import { mountOf, requireOneVolume } from './mounts.ts'
import type { ReflinkOptions } from './options.ts'
import type { Host, Provider, Volume } from './snapshots.ts'

interface Folder extends Volume {
  folder: string
  /** The folder into which its copies are put. */
  place: string
}

/**
 * Copies that share their blocks with the original. Each file is as it was at one moment, but not all at the same
 * one: between start and stop of a backup that is enough, as for any copy.
 */
export function reflink(options: ReflinkOptions, host: Host): Provider<Folder> {
  return {
    async volumeOf(folder) {
      const mounts = await host.mounts()
      requireOneVolume(mounts, folder, host.isEmptied)
      const place = await folderBeside(mounts, folder, options.snapshotFolder)
      requireOutside(folder, place)
      await requireWritable(place)
      await requireReflinks(place, mountOf(mounts, folder).type)
      return { id: `folder ${folder}`, folder, place }
    },
    async make({ folder, place }, name, signal) {
      await mkdir(join(place, name), { mode: 0o700 })
      await cloneFolder(folder, join(place, name), { isEmptied: host.isEmptied, signal })
    },
    viewOf: ({ place }, name) => join(place, name),
    async verify() {
      // What a copy holds can only be lost with the file system.
    },
    async remove({ place }, name) {
      await rm(join(place, name), { recursive: true, force: true })
    },
    list: ({ place }) => readdir(place),
  }
}
