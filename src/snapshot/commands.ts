import { join } from 'node:path'
import { folderOfMountPoints, makeMountPoint, removeMountPoint } from './mount-point.ts'
import type { CommandsOptions } from './options.ts'
import type { Host, Provider, Volume } from './snapshots.ts'

interface Folder extends Volume {
  folder: string
  mountFolder: string
}

/**
 * Snapshots by the operator's own programs. Each folder gets a snapshot of its own, since nothing says what they
 * have in common.
 */
export function commands(options: CommandsOptions, host: Host): Provider<Folder> {
  const filled = (argument: string, { folder, mountFolder }: Folder, name: string) => {
    const values: Record<string, string> = { name, folder, mountpoint: join(mountFolder, name) }
    return argument.replace(/\{(name|folder|mountpoint)\}/g, (_, key: string) => values[key]!)
  }
  const run = (argv: readonly string[], volume: Folder, name: string, signal?: AbortSignal) =>
    host.run(
      argv.map((argument) => filled(argument, volume, name)),
      signal ? { signal } : {},
    )
  const list = async (volume: Folder) => {
    if (!options.list) return undefined
    const { stdout } = await run(options.list, volume, '')
    return stdout
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '')
  }
  return {
    async volumeOf(folder) {
      const volume = {
        id: `folder ${folder}`,
        folder,
        mountFolder: await folderOfMountPoints(options.mountFolder),
      }
      await list(volume)
      return volume
    },
    // These may talk to a distant storage array and take minutes, so an abort ends them.
    async make(volume, name, signal) {
      await run(options.create, volume, name, signal)
      if (!options.mount) return
      await makeMountPoint(volume.mountFolder, name)
      await run(options.mount, volume, name, signal)
    },
    viewOf: (volume, name) => filled(options.path, volume, name),
    async verify() {
      // Nobody can know here; see docs/snapshots.md.
    },
    async remove(volume, name) {
      const names = await list(volume)
      const path = join(volume.mountFolder, name)
      const isMounted = (await host.mounts()).some(({ target }) => target === path)
      if (isMounted && options.unmount) await run(options.unmount, volume, name)
      if (options.mount) await removeMountPoint(path)
      if (!names || names.includes(name)) await run(options.remove, volume, name)
    },
    list: async (volume) => (await list(volume)) ?? [],
  }
}
