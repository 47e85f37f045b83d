import { lstat, readdir, stat } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { fsPath, nameFromBytes, nameToBytes } from '../archive/file-name.ts'
import { PgrecallError, systemCode } from '../errors.ts'
import { folderBeside, requireOutside, requireWritable } from './beside.ts'
import { mountOf, notInSnapshot } from './mounts.ts'
import type { BtrfsOptions } from './options.ts'
import type { Host, Provider, Volume } from './snapshots.ts'

/** The root of every subvolume has this inode number, and nothing else has. */
const SUBVOLUME_INODE = 256

interface Subvolume extends Volume {
  root: string
  /** The folder into which its snapshots are put. */
  place: string
}

/**
 * Snapshots of btrfs subvolumes. Atomic, and made in the time of a commit.
 * @see btrfs-subvolume(8)
 */
export function btrfs(options: BtrfsOptions, host: Host): Provider<Subvolume> {
  const run = (...args: string[]) => host.run([...options.asRoot, 'btrfs', ...args])
  return {
    async volumeOf(folder) {
      const mounts = await host.mounts()
      const { type, options: mountOptions } = mountOf(mounts, folder)
      if (type !== 'btrfs') throw new PgrecallError('refused', `${folder} is on ${type}, not on btrfs`)
      if (options.asRoot.length === 0) requireRights(folder, mountOptions)
      const root = await subvolumeOf(folder)
      const place = await folderBeside(mounts, root, options.snapshotFolder)
      requireOutside(folder, place)
      if (options.asRoot.length === 0) await requireWritable(place)
      await requireNoSubvolumes(folder, host.isEmptied)
      return { id: `subvolume ${root}`, root, place }
    },
    async make({ root, place }, name) {
      await run('subvolume', 'snapshot', '-r', root, join(place, name))
    },
    viewOf: ({ root, place }, name, folder) => join(place, name, relative(root, folder)),
    async verify() {
      // What a snapshot holds can only be lost with the file system.
    },
    async remove({ place }, name) {
      const path = join(place, name)
      if (!(await isSubvolume(path))) return
      // Only root may delete a read-only subvolume; its owner makes it writable first.
      await run('property', 'set', '-t', 'subvol', path, 'ro', 'false')
      await run('subvolume', 'delete', path)
    },
    async list({ place }) {
      const names = await readdir(place)
      const found = await Promise.all(names.map((name) => isSubvolume(join(place, name))))
      return names.filter((_, index) => found[index])
    },
  }
}

/** The owner of a subvolume may snapshot it, but only with this mount option may he delete the snapshot again. */
function requireRights(folder: string, mountOptions: readonly string[]): void {
  if (process.getuid?.() === 0 || mountOptions.includes('user_subvol_rm_allowed')) return
  throw new PgrecallError('refused', `this user may make snapshots of ${folder}, but not remove them`, {
    hint: 'set backup.snapshot.asRoot: [sudo, -n], or mount the file system with user_subvol_rm_allowed; see docs/snapshots.md',
  })
}

async function subvolumeOf(folder: string): Promise<string> {
  const { dev } = await stat(folder)
  for (let path = folder; ; path = dirname(path)) {
    const facts = await stat(path)
    // A bind mount can show the inside of a subvolume without its root.
    if (facts.dev !== dev || (path === '/' && facts.ino !== SUBVOLUME_INODE)) break
    if (facts.ino === SUBVOLUME_INODE) return path
  }
  throw new PgrecallError(
    'refused',
    `the root of the subvolume that holds ${folder} is not mounted above it`,
    {
      hint: 'mount the subvolume itself, not a folder in it',
    },
  )
}

async function isSubvolume(path: string): Promise<boolean> {
  try {
    const facts = await lstat(path)
    return facts.isDirectory() && facts.ino === SUBVOLUME_INODE
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false
    throw error
  }
}

/** In a snapshot, subvolumes further down (and mounts) are empty folders. */
async function requireNoSubvolumes(folder: string, isEmptied: Host['isEmptied']): Promise<void> {
  const { dev } = await stat(folder)
  const pending = ['']
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    for (const inner of await foldersIn(folder, path)) {
      if (isEmptied(inner)) continue
      const facts = await stat(fsPath(join(folder, inner))).catch(() => undefined)
      if (facts && facts.dev !== dev) {
        throw notInSnapshot(
          folder,
          nameToBytes(join(folder, inner)).toString('utf8'),
          facts.ino === SUBVOLUME_INODE ? 'it is a subvolume of its own' : 'it is another file system',
        )
      }
      pending.push(inner)
    }
  }
}

/** Relative to `root`. A folder that vanishes meanwhile, as with DROP DATABASE, holds nothing. */
async function foldersIn(root: string, path: string): Promise<string[]> {
  try {
    const entries = await readdir(fsPath(join(root, path)), { encoding: 'buffer', withFileTypes: true })
    return entries
      .filter((entry) => entry.isDirectory())
      .map((entry) => join(path, nameFromBytes(entry.name)))
  } catch (error) {
    if (systemCode(error) === 'ENOENT' && path !== '') return []
    throw error
  }
}
