import { dirname, join } from 'node:path'
import { backupPrefix, backupRecordKey } from '../catalog/layout.ts'
import { pinIfAllowed } from '../catalog/pin.ts'
import type { Repository } from '../catalog/repository.ts'
import { PgrecallError, reasonOf, systemCode } from '../errors.ts'
import type { Events } from '../events.ts'
import { withoutRecoverySettings } from '../postgres/recovery-settings.ts'
import {
  finishTarget,
  inspectTargets,
  type Owner,
  ownerFor,
  prepareTargets,
  readIfPresent,
  syncFolder,
  type TargetFolder,
  writeFileFor,
} from './data-directory.ts'
import { extractShards, syncExtracted } from './extract-pool.ts'
import type { RestorePlan } from './plan.ts'
import { openManifest, type StoredManifest } from './stored-manifest.ts'

export interface RestoreContext {
  repository: Repository
  events: Events
  signal: AbortSignal
  now: () => Date
  isRoot: boolean
  jobs: number
}

export interface RestoreResult {
  files: number
  bytes: number
}

/**
 * Checks, without changing anything, that the plan can be carried out on this host.
 * @param force whether an existing cluster in the way is removed
 */
export function inspectRestore(plan: RestorePlan, force: boolean): Promise<TargetFolder[]> {
  return inspectTargets(plan, force)
}

/**
 * Carries out a plan: the data directory and the tablespaces, every file checked against PostgreSQL's own manifest,
 * synced, with the settings of the recovery, and `pg_control` last. Killed at any moment, it leaves a directory in
 * which no server starts, and can be run again.
 *
 * @throws PgrecallError `damaged` when stored bytes are not what they must be, `failed` when they cannot be written
 */
export async function restoreCluster(
  plan: RestorePlan,
  targets: readonly TargetFolder[],
  context: RestoreContext,
): Promise<RestoreResult> {
  const { events, now, repository } = context
  const onUnpinned = (text: string) => events.emit('warning', { text })
  const { cluster, id } = plan.backup
  await using _pin = await pinIfAllowed(repository.storage, cluster, id, 'restore', now, onUnpinned)
  await requireObjects(plan, context)
  const manifest = await openManifest(plan, context.repository)
  const owner = await ownerFor(plan.dataDirectory, plan.backup.owner, context.isRoot)
  return await sayWhere(plan, () => fill(plan, targets, manifest, owner, context))
}

async function fill(
  plan: RestorePlan,
  targets: readonly TargetFolder[],
  manifest: StoredManifest,
  owner: Awaited<ReturnType<typeof ownerFor>>,
  context: RestoreContext,
): Promise<RestoreResult> {
  await prepareTargets(plan, targets, owner)
  const extracted = await extractShards(plan, { ...context, owner })
  await manifest.requireFiles(extracted.files, plan)
  context.events.emit('step', {
    text: `Checked ${manifest.files.count} files; writing the recovery settings`,
  })
  await manifest.write(join(plan.dataDirectory, 'backup_manifest'), owner)
  await writeRecoverySettings(plan, owner)
  await syncExtracted(extracted)
  await syncFolder(dirname(plan.dataDirectory))
  context.signal.throwIfAborted()
  await finishTarget(plan.dataDirectory)
  return { files: manifest.files.count, bytes: plan.backup.dataBytes }
}

/** A failed system call is about the target, and no bug. */
async function sayWhere<T>(plan: RestorePlan, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof PgrecallError || systemCode(error) === undefined) throw error
    throw new PgrecallError('failed', `cannot write below ${plan.dataDirectory}: ${reasonOf(error)}`, {
      hint: 'mend this and run the same restore again',
      cause: error,
    })
  }
}

/** Nothing that is there is given up before it is seen that everything that replaces it is stored. */
async function requireObjects(
  { backup }: RestorePlan,
  { repository: { storage } }: RestoreContext,
): Promise<void> {
  const stored = new Map<string, number>()
  const folder = backupPrefix(backup.cluster, backup.id)
  for await (const { key, bytes } of storage.list(folder)) stored.set(key, bytes)
  if (!stored.has(backupRecordKey(backup.cluster, backup.id)))
    throw new PgrecallError('absent', `backup ${backup.id} was removed while the restore was planned`)
  for (const { name, kind, bytes, header } of backup.objects) {
    const found = stored.get(folder + name)
    // A rotation of keys gives an encrypted object another header.
    const isWhole = header ? (found ?? 0) > bytes - header.bytes : found === bytes
    if (isWhole || kind === 'text' || kind === 'index') continue
    const what =
      found === undefined ? 'is missing from the repository' : `has ${found} bytes instead of ${bytes}`
    throw new PgrecallError('damaged', `object ${folder}${name} of the backup is damaged: it ${what}`, {
      hint: 'restore from another repository or from another backup; nothing was written',
    })
  }
}

async function writeRecoverySettings(plan: RestorePlan, owner: Owner): Promise<void> {
  const { file, lines, serverLines, signalFile } = plan.settings
  const head = `# Written by pgrecall for the recovery of backup ${plan.backup.id}`
  const autoConf = join(plan.dataDirectory, 'postgresql.auto.conf')
  const kept = withoutRecoverySettings(await readIfPresent(autoConf)).trimEnd()
  const added = [...(file === 'recovery.conf' ? [] : lines), ...serverLines]
  const whole = [...(kept ? [kept] : []), ...(added.length > 0 ? [head, ...added] : [])]
  await writeFileFor(autoConf, `${whole.join('\n')}\n`, owner)
  if (file === 'recovery.conf') {
    await writeFileFor(join(plan.dataDirectory, file), `${[head, ...lines].join('\n')}\n`, owner)
  }
  if (signalFile) await writeFileFor(join(plan.dataDirectory, signalFile), '', owner)
}
