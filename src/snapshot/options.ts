/** Which programs make the snapshots, and where: plain data, as it stands in the configuration. */
export type SnapshotOptions = BtrfsOptions | ZfsOptions | LvmOptions | ReflinkOptions | CommandsOptions

/** Put in front of each program that needs root's rights, e.g. `['sudo', '-n']`; empty when we have them. */
interface Privileged {
  asRoot: string[]
}

export interface BtrfsOptions extends Privileged {
  provider: 'btrfs'
  /** A folder on the same file system to put the snapshots into; by default the one that holds the subvolume. */
  snapshotFolder?: string | undefined
}

export interface ZfsOptions extends Privileged {
  provider: 'zfs'
}

export interface LvmOptions extends Privileged {
  provider: 'lvm'
  /**
   * Room for what changes in the origin while the snapshot lives: `10G`, or extents such as `20%ORIGIN`. A thin
   * volume takes it from its pool, and this is not used.
   */
  size: string
  /** An existing folder in which mount points are made; by default the one for temporary files. */
  mountFolder?: string | undefined
}

export interface ReflinkOptions {
  provider: 'reflink'
  /** A folder on the same file system to put the copies into; by default the one that holds the copied folder. */
  snapshotFolder?: string | undefined
}

/**
 * The operator's own programs, as argument lists: no shell reads them. In every argument, and in `path`, `{name}` is
 * the snapshot's name, `{folder}` the folder without symbolic links, and `{mountpoint}` an empty folder of ours.
 */
export interface CommandsOptions {
  provider: 'commands'
  create: string[]
  mount?: string[] | undefined
  unmount?: string[] | undefined
  remove: string[]
  /** Prints the names of the snapshots that exist, one a line. Without it, nothing is swept. */
  list?: string[] | undefined
  /** Where the view of the folder is, once mounted. */
  path: string
  mountFolder?: string | undefined
}
