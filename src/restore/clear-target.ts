import type { Dirent } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fsPath, nameFromBytes } from '../archive/file-name.ts'
import { originalName } from '../postgres/incremental-file.ts'
import { MARKER, type TargetFolder } from './data-directory.ts'
import { PathSet } from './path-set.ts'
import type { RestorePlan } from './plan.ts'
import type { StoredManifest } from './stored-manifest.ts'

/**
 * What a delta restore does not fill by comparing: WAL comes from the archive or from the backup itself, and the links
 * of the tablespaces from the plan.
 */
const MADE_ANEW = ['pg_wal', 'pg_xlog', 'pg_tblspc']

/**
 * Removes from the folders that a delta restore goes on from all that is not in the backup, before anything is written
 * into them: what is left are plain files under the names of files of the backup, and their folders. So nothing is
 * written through a link, and no file stands where a folder has to be.
 */
export async function clearTargets(
  plan: RestorePlan,
  targets: readonly TargetFolder[],
  manifest: StoredManifest,
): Promise<void> {
  const isInBackup = await entriesOf(manifest)
  for (const { path: root, entries } of targets) {
    const space = plan.tablespaces.find(({ to }) => to === root)
    const prefix = space ? `pg_tblspc/${space.oid}` : ''
    const clear = async (folder: string) => {
      const all = await readdir(fsPath(join(root, folder)), { encoding: 'buffer', withFileTypes: true })
      for (const entry of all) {
        const name = nameFromBytes(entry.name)
        if (folder === '' && (name === MARKER || !entries.includes(name))) continue
        const path = join(folder, name)
        const isKept = isInBackup(entry, join(prefix, path)) && (space || !MADE_ANEW.includes(path))
        if (!isKept) await rm(fsPath(join(root, path)), { recursive: true, force: true })
        else if (entry.isDirectory()) await clear(path)
      }
    }
    await clear('')
  }
}

/** @returns what says whether a file or a folder under this path, as the manifest has it, is in the backup */
async function entriesOf(
  manifest: StoredManifest,
): Promise<(entry: Dirent<Buffer>, path: string) => boolean> {
  const files = new PathSet()
  const folders = new PathSet()
  let latest = '.'
  await manifest.readEach(({ path }) => {
    files.add(originalName(path) ?? path)
    // Most files follow others of their folder.
    if (dirname(path) === latest) return
    latest = dirname(path)
    for (let folder = latest; folder !== '.'; folder = dirname(folder)) folders.add(folder)
  })
  return (entry, path) => (entry.isFile() && files.has(path)) || (entry.isDirectory() && folders.has(path))
}
