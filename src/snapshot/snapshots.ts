import { opendir, realpath, stat } from 'node:fs/promises'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { Mount } from './mounts.ts'
import type { Run } from './run.ts'

/** What a provider needs of this host. */
export interface Host {
  run: Run
  mounts(): Promise<Mount[]>
  /**
   * Which folders (relative to a folder that is snapshotted) count as empty: nobody will read their content in the
   * view, so it may lie on another volume, and need not be copied.
   */
  isEmptied(path: string): boolean
}

/** What is snapshotted as a whole. Folders with the same `id` share one snapshot. */
export interface Volume {
  /** For people too: `subvolume /srv/pg`. */
  id: string
}

/** One way of making snapshots. `name` is a file name of ASCII letters, digits, hyphens and dots. */
export interface Provider<V extends Volume> {
  /**
   * The volume that a folder lies on.
   * @param folder absolute, without symbolic links
   * @throws PgrecallError `refused` when it cannot be snapshotted whole, or not by us
   */
  volumeOf(folder: string): Promise<V>
  /** Makes a snapshot and, where needed, mounts it. May leave it half done. */
  make(volume: V, name: string, signal: AbortSignal): Promise<void>
  /** Where a folder of the volume is seen in the snapshot. */
  viewOf(volume: V, name: string, folder: string): string
  /** @throws PgrecallError `failed` when what was read from the snapshot may be wrong */
  verify(volume: V, name: string): Promise<void>
  /** Removes a snapshot in whatever state it is; that there is none is fine. */
  remove(volume: V, name: string): Promise<void>
  /** The names of what exists on the volume, of ours and of others, also of what is half made. */
  list(volume: V): Promise<string[]>
}

/** Read-only views of folders, each as its volume was at one moment. */
export interface SnapshotSet {
  /** Where each of the folders is seen, by the path that was asked for. */
  views: ReadonlyMap<string, string>
  /** What was made, for messages. */
  snapshots: readonly { name: string; volume: string }[]
  /**
   * To be called after the last byte was read from the views.
   * @throws PgrecallError `failed` when a snapshot was lost meanwhile: what was read is void
   */
  verify(): Promise<void>
  /**
   * Removes all of them, whatever was aborted.
   * @throws PgrecallError `failed` that names what is left; `sweep` finds it later
   */
  remove(): Promise<void>
}

/** Snapshots of folders of this host. */
export interface Snapshots {
  /** @throws PgrecallError `refused` when one of the folders cannot be snapshotted */
  check(folders: readonly string[]): Promise<void>
  /**
   * Makes a snapshot of every volume on which the folders lie, one after the other. When it throws, what was made
   * is removed as far as that is possible.
   * @param name what the snapshots' names begin with, unique to this run; a number follows
   */
  create(folders: readonly string[], name: string, signal: AbortSignal): Promise<SnapshotSet>
  /**
   * Removes what killed runs have left on the folders' volumes: everything whose name begins with `prefix`. The
   * caller makes sure that no living run uses such a name.
   * @returns the names of what was removed
   */
  sweep(folders: readonly string[], prefix: string): Promise<string[]>
}

/** The story around a provider, the same for all of them. */
export function snapshotsBy<V extends Volume>(provider: Provider<V>): Snapshots {
  return {
    async check(folders) {
      await placesOf(provider, folders)
    },
    async create(folders, name, signal) {
      signal.throwIfAborted()
      const places = await placesOf(provider, folders)
      const made: Made<V>[] = []
      try {
        for (const [index, volume] of volumesOf(places).entries()) {
          signal.throwIfAborted()
          made.push({ volume, name: `${name}-${index + 1}` })
          await provider.make(volume, made.at(-1)!.name, signal)
        }
        signal.throwIfAborted()
        return setOf(provider, made, await viewsOf(provider, made, places))
      } catch (error) {
        await removeAll(provider, made)
        throw error
      }
    },
    async sweep(folders, prefix) {
      const removed: string[] = []
      for (const volume of volumesOf(await placesOf(provider, folders))) {
        for (const name of await provider.list(volume)) {
          if (!name.startsWith(prefix)) continue
          await provider.remove(volume, name)
          removed.push(name)
        }
      }
      return removed
    },
  }
}

/** A folder as it was asked for, the same without symbolic links, and what it lies on. */
interface Place<V> {
  folder: string
  real: string
  volume: V
}

async function placesOf<V extends Volume>(
  provider: Provider<V>,
  folders: readonly string[],
): Promise<Place<V>[]> {
  const places: Place<V>[] = []
  for (const folder of folders) {
    const real = await realFolder(folder)
    places.push({ folder, real, volume: await provider.volumeOf(real) })
  }
  return places
}

function volumesOf<V extends Volume>(places: readonly Place<V>[]): V[] {
  return [...new Map(places.map(({ volume }) => [volume.id, volume])).values()]
}

interface Made<V> {
  volume: V
  name: string
}

function setOf<V extends Volume>(
  provider: Provider<V>,
  made: readonly Made<V>[],
  views: ReadonlyMap<string, string>,
): SnapshotSet {
  return {
    views,
    snapshots: made.map(({ volume, name }) => ({ name, volume: volume.id })),
    async verify() {
      for (const { volume, name } of made) await provider.verify(volume, name)
    },
    async remove() {
      const left = await removeAll(provider, made)
      if (left.length === 0) return
      const names = left.map(({ name, volume }) => `${name} of ${volume.id}`).join(', ')
      throw new PgrecallError('failed', `cannot remove the snapshot ${names}: ${reasonOf(left[0]!.error)}`, {
        hint: 'the next backup with this method tries again; until then it takes up space',
        cause: left[0]!.error,
      })
    },
  }
}

/** The newest first. @returns what could not be removed */
async function removeAll<V extends Volume>(provider: Provider<V>, made: readonly Made<V>[]) {
  const left: (Made<V> & { error: unknown })[] = []
  for (const { volume, name } of made.toReversed()) {
    await provider.remove(volume, name).catch((error: unknown) => left.push({ volume, name, error }))
  }
  return left
}

async function viewsOf<V extends Volume>(
  provider: Provider<V>,
  made: readonly Made<V>[],
  places: readonly Place<V>[],
): Promise<Map<string, string>> {
  const views = new Map<string, string>()
  for (const { folder, real, volume } of places) {
    const { name } = made.find((one) => one.volume.id === volume.id)!
    const view = provider.viewOf(volume, name, real)
    await requireView(real, view)
    views.set(folder, view)
  }
  return views
}

/** A view that is not there, or that is the living folder, must not become a backup. */
async function requireView(folder: string, view: string): Promise<void> {
  try {
    // Opening it, unlike asking for its facts, also makes ZFS mount the snapshot.
    await (await opendir(view)).close()
  } catch (error) {
    throw new PgrecallError(
      'failed',
      `the snapshot was made, but cannot be read where ${folder} must be in it: ${reasonOf(error)}`,
      { cause: error },
    )
  }
  const [live, seen] = await Promise.all([stat(folder), stat(view)])
  if (seen.dev !== live.dev || seen.ino !== live.ino) return
  throw new PgrecallError('failed', `${view} is not a snapshot of ${folder}, but the folder itself`)
}

async function realFolder(folder: string): Promise<string> {
  return realpath(folder).catch((error: unknown) => {
    throw new PgrecallError('refused', `cannot find the folder ${folder}: ${reasonOf(error)}`, {
      cause: error,
    })
  })
}
