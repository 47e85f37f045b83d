import { btrfs } from './btrfs.ts'
import { commands } from './commands.ts'
import { lvm } from './lvm.ts'
import { readMounts } from './mounts.ts'
import type { SnapshotOptions } from './options.ts'
import { reflink } from './reflink.ts'
import type { Run } from './run.ts'
import { type Host, type Snapshots, snapshotsBy } from './snapshots.ts'
import { zfs } from './zfs.ts'

/**
 * The snapshots that the configuration asks for.
 * @param host `run` starts programs; `isEmptied` names the folders whose content nobody will read in a view
 */
export function openSnapshots(
  options: SnapshotOptions,
  host: { run: Run; isEmptied: Host['isEmptied']; mounts?: Host['mounts'] },
): Snapshots {
  const known: Host = { mounts: readMounts, ...host }
  switch (options.provider) {
    case 'btrfs':
      return snapshotsBy(btrfs(options, known))
    case 'zfs':
      return snapshotsBy(zfs(options, known))
    case 'lvm':
      return snapshotsBy(lvm(options, known))
    case 'reflink':
      return snapshotsBy(reflink(options, known))
    case 'commands':
      return snapshotsBy(commands(options, known))
  }
}
