import { join } from 'node:path'
import { originalName } from '../postgres/incremental-file.ts'
import { FileSet } from '../reconstruction/file-set.ts'
import type { Reconstruction } from '../reconstruction/reconstruction.ts'
import type { Owner } from './data-directory.ts'
import { isEmptied } from './databases.ts'
import { extractChain } from './extract-chain.ts'
import type { Extracted } from './extract-pool.ts'
import type { RestorePlan } from './plan.ts'
import type { RestoreContext } from './restore-context.ts'
import { RestoredManifest } from './restored-manifest.ts'
import { addMade, type StoredManifest } from './stored-manifest.ts'

/** What was written, and what was left as it was, in bytes of files. */
export interface WrittenChain {
  extracted: Extracted
  writtenBytes: number
  keptBytes: number
}

/**
 * Writes the cluster's files from all backups of the chain, into folders that are empty or that were cleared for it.
 * Sees that just the files of the newest backup's manifest are there, and writes the manifest of what they are now; not
 * of a partial restore, of which a manifest would be untrue.
 * @throws PgrecallError `damaged`, `failed`
 */
export async function writeChain(
  plan: RestorePlan,
  manifest: StoredManifest,
  reconstruction: Reconstruction,
  owner: Owner,
  context: RestoreContext,
): Promise<WrittenChain> {
  const files = new FileSet()
  using restored = plan.partial ? undefined : await manifestOf(plan, owner)
  const { writtenBytes, keptBytes, ...extracted } = await extractChain(plan, {
    ...context,
    reconstruction,
    owner,
    delta: plan.delta,
    placeholders: (plan.partial?.emptied ?? []).map(({ oid }) => oid),
    onFiles: (batch) => {
      for (const { path, size, sha256 = '', asRecorded } of batch) {
        if (asRecorded) files.add(path, size, sha256)
        else addMade(files, path)
      }
      restored?.add(batch)
    },
  })
  await manifest.requireMade(files, plan, (path) => isMade(plan, path))
  context.events.emit('step', {
    text: `Checked ${files.count} files; writing the recovery settings`,
  })
  restored?.finish()
  return { extracted, writtenBytes, keptBytes }
}

/** Whether what is restored of a file in the manifest of the plan's backup is something else than the file that this lists. */
function isMade({ chain, partial }: RestorePlan, path: string): boolean {
  const original = originalName(path)
  if (chain.length > 1 && (original !== undefined || path === 'backup_label')) return true
  return partial !== undefined && isEmptied(partial, original ?? path)
}

const manifestOf = (plan: RestorePlan, owner: Owner) =>
  RestoredManifest.create(join(plan.dataDirectory, 'backup_manifest'), plan.backup, owner)
