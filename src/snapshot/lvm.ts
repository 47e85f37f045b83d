import { join, relative } from 'node:path'
import { PgrecallError, reasonOf } from '../errors.ts'
import { folderOfMountPoints, isThere } from './mount-point.ts'
import { mountOf, requireOneVolume } from './mounts.ts'
import type { LvmOptions } from './options.ts'
import type { Host, Provider, Volume } from './snapshots.ts'

/** File systems that recover their journal from the device alone, with what the mount needs beside `ro`. */
const MOUNT_OPTIONS: Record<string, string[]> = {
  ext3: [],
  ext4: [],
  // The origin is mounted under the same UUID, which XFS would refuse.
  xfs: ['nouuid'],
}

interface LogicalVolume extends Volume {
  group: string
  name: string
  thin: boolean
  fileSystem: string
  /** Where the folder of the file system that is shown at `target` lies in it. */
  root: string
  target: string
  /** The folder in which mount points are made. */
  mountFolder: string
}

/**
 * Snapshots of LVM logical volumes, thick and thin.
 *
 * The snapshot is writable, its mount is not: mounting recovers the file system's journal, which is the documented
 * way to a consistent file system and needs a device that can be written. With a read-only snapshot, ext4 and XFS
 * would have to be mounted without recovery, and rely on lvcreate having frozen the file system.
 * @see lvcreate(8), lvs(8) for the attributes, and lvmthin(7) for thin snapshots and their activation
 */
export function lvm(options: LvmOptions, host: Host): Provider<LogicalVolume> {
  const run = (...argv: string[]) => host.run([...options.asRoot, ...argv])
  /** @param what a device, a volume or a volume group */
  const volumes = async (what: string) => {
    const { stdout } = await run('lvs', '--reportformat', 'json', '-o', 'vg_name,lv_name,lv_attr', what)
    return parseReport(stdout)
  }
  const removeMountPoint = async (path: string) => {
    if (await isThere(path)) await run('rmdir', path)
  }
  return {
    async volumeOf(folder) {
      const mounts = await host.mounts()
      const { type, source, root, target } = mountOf(mounts, folder)
      if (!MOUNT_OPTIONS[type]) {
        throw new PgrecallError('refused', `${folder} is on ${type}; LVM snapshots can be of ext4 and XFS`)
      }
      requireOneVolume(mounts, folder, host.isEmptied)
      const mountFolder = await folderOfMountPoints(options.mountFolder)
      const [found] = await volumes(source).catch((error: unknown) => {
        throw new PgrecallError(
          'refused',
          `LVM does not show ${source}, which holds ${folder}: ${reasonOf(error)}`,
          {
            hint: 'is it a logical volume, and may this user see it? docs/snapshots.md has the lines for sudo',
            cause: error,
          },
        )
      })
      if (!found) throw new PgrecallError('refused', `${source}, which holds ${folder}, is no logical volume`)
      const { vg_name: group, lv_name: name, lv_attr } = found
      const thin = lv_attr.startsWith('V')
      return {
        id: `logical volume ${group}/${name}`,
        ...{ group, name, thin, fileSystem: type, root, target, mountFolder },
      }
    },
    async make({ group, name: origin, thin, fileSystem, mountFolder }, name) {
      // Thin snapshots are not activated unless that is asked for, and there would be no device to mount.
      const kind = thin
        ? ['--setactivationskip', 'n']
        : [options.size.includes('%') ? '--extents' : '--size', options.size]
      await run('lvcreate', '--yes', '--snapshot', ...kind, '--name', name, `${group}/${origin}`)
      const path = join(mountFolder, name)
      // Made by root: in place of a folder of ours, a link could lead root's mount to anywhere.
      await run('mkdir', '-m', '0755', path)
      const mountOptions = ['ro', 'nosuid', 'nodev', 'noexec', ...MOUNT_OPTIONS[fileSystem]!].join(',')
      await run('mount', '-t', fileSystem, '-o', mountOptions, deviceOf(group, name), path)
    },
    viewOf: ({ mountFolder, root, target }, name, folder) =>
      join(mountFolder, name, root, relative(target, folder)),
    async verify({ group, name: origin }, name) {
      const [found] = await volumes(`${group}/${name}`)
      // The state, fifth, is I or S for a snapshot that overflowed, X when nobody knows; the health of a thin volume,
      // ninth, is F when it failed.
      if (found && !/^.{4}[ISX]|^.{8}F/.test(found.lv_attr)) return
      throw new PgrecallError(
        'failed',
        `the snapshot ${group}/${name} has overflowed: what was read from it is void`,
        {
          hint: `give more room with backup.snapshot.size, or let LVM extend snapshots of ${group}/${origin} by itself`,
        },
      )
    },
    async remove({ group, mountFolder }, name) {
      if (!(await volumes(group)).some((volume) => volume.lv_name === name)) return
      const mounted = (await host.mounts()).filter(({ source }) => source === deviceOf(group, name))
      for (const { target } of mounted.toReversed()) {
        await run('umount', target)
        await removeMountPoint(target)
      }
      // The folder goes before the volume: whoever finds no volume has nothing left to look for.
      await removeMountPoint(join(mountFolder, name))
      await run('lvremove', '--yes', `${group}/${name}`)
    },
    // Not only snapshots: an lvcreate that was killed can leave a volume that is none yet.
    list: async ({ group }) => (await volumes(group)).map((volume) => volume.lv_name),
  }
}

interface ReportRow {
  vg_name: string
  lv_name: string
  lv_attr: string
}

function parseReport(stdout: string): ReportRow[] {
  try {
    return (JSON.parse(stdout) as { report: { lv: ReportRow[] }[] }).report.flatMap(({ lv }) => lv)
  } catch (error) {
    throw new PgrecallError('failed', 'cannot understand the answer of lvs', {
      hint: 'lvs --reportformat json needs LVM 2.02.158 or newer',
      cause: error,
    })
  }
}

/** The device-mapper's name of a volume: hyphens inside a name are doubled. */
function deviceOf(group: string, name: string): string {
  return `/dev/mapper/${[group, name].map((part) => part.replaceAll('-', '--')).join('-')}`
}
