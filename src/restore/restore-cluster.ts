import { dirname, join } from 'node:path'
import type { BackupRecord } from '../catalog/backup-record.ts'
import { backupPrefix, backupRecordKey } from '../catalog/layout.ts'
import { pinIfAllowed } from '../catalog/pin.ts'
import type { Repository } from '../catalog/repository.ts'
import { noteRestoreRate } from '../catalog/restore-rates.ts'
import { PgrecallError, reasonOf, systemCode } from '../errors.ts'
import { withoutRecoverySettings } from '../postgres/recovery-settings.ts'
import { reconstructionOf } from '../reconstruction/reconstruction.ts'
import { verifyLinks } from './chain-links.ts'
import { clearTargets } from './clear-target.ts'
import {
  finishTarget,
  linkTablespaces,
  type Owner,
  ownerFor,
  prepareTargets,
  readIfPresent,
  syncFolder,
  type TargetFolder,
  writeFileFor,
} from './data-directory.ts'
import { extractShards, syncExtracted } from './extract-pool.ts'
import { inspectTargets } from './inspect-targets.ts'
import { insteadText, type RestorePlan } from './plan.ts'
import type { RestoreContext } from './restore-context.ts'
import { openManifest, type StoredManifest } from './stored-manifest.ts'
import { type WrittenChain, writeChain } from './write-chain.ts'

export interface RestoreResult {
  files: number
  /** Of the cluster's files. */
  bytes: number
  /** Of a delta: how much of that was written, and how much was there already. */
  delta?: Pick<WrittenChain, 'writtenBytes' | 'keptBytes'>
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
  await using _pins = await pinLinks(plan, context)
  try {
    return await restoreChain(plan, targets, context)
  } catch (error) {
    throw withOthers(error, plan)
  }
}

/** Who cannot have this backup is told from which others the same target can be reached. */
function withOthers(error: unknown, { instead }: RestorePlan): unknown {
  if (!(error instanceof PgrecallError) || error.kind !== 'damaged' || instead.length === 0) return error
  const hint = [...(error.hint === undefined ? [] : [error.hint]), insteadText(instead)].join('; ')
  return new PgrecallError('damaged', error.message, { hint, cause: error })
}

async function restoreChain(
  plan: RestorePlan,
  targets: readonly TargetFolder[],
  context: RestoreContext,
): Promise<RestoreResult> {
  await requireObjects(plan, context)
  await verifyLinks(plan.chain.slice(1), context)
  const manifest = await openManifest(plan.backup, context.repository)
  const isPlain = plan.chain.length === 1 && !plan.delta && !plan.partial
  const reconstruction = isPlain
    ? undefined
    : await reconstructionOf(plan.chain, context.repository, context.signal)
  const write = (owner: Owner) =>
    reconstruction
      ? writeChain(plan, manifest, reconstruction, owner, context)
      : writeBackup(plan, manifest, owner, context)
  const begun = context.now()
  const result = await sayWhere(plan, () => fill(plan, targets, manifest, write, context))
  await rememberRate(plan, begun, context)
  return result
}

/** By what whole restores took, the next one is estimated. */
async function rememberRate(
  { backup, clusterBytes, delta, partial }: RestorePlan,
  begun: Date,
  { repository, events, jobs, now }: RestoreContext,
): Promise<void> {
  const finished = now()
  const seconds = (finished.getTime() - begun.getTime()) / 1000
  if (delta || partial || seconds <= 0) return
  const rate = { kind: 'restore', backup: backup.id, bytes: clusterBytes, seconds, jobs } as const
  await noteRestoreRate(repository, backup.cluster, { ...rate, finishedAt: finished.toISOString() }, events)
}

/** Retention takes nothing away of what is read. */
async function pinLinks(
  { chain }: RestorePlan,
  { repository: { storage }, events, now }: RestoreContext,
): Promise<AsyncDisposable> {
  const onUnpinned = (text: string) => events.emit('warning', { text })
  const pins = new AsyncDisposableStack()
  for (const { cluster, id } of chain) {
    pins.use(await pinIfAllowed(storage, cluster, id, 'restore', now, onUnpinned))
  }
  return pins
}

async function fill(
  plan: RestorePlan,
  targets: readonly TargetFolder[],
  manifest: StoredManifest,
  write: (owner: Owner) => Promise<WrittenChain>,
  { isRoot, signal }: RestoreContext,
): Promise<RestoreResult> {
  const owner = await ownerFor(plan.dataDirectory, plan.backup.owner, isRoot)
  await prepareTargets(plan, targets, owner)
  const goingOn = targets.filter(({ goesOn }) => goesOn)
  if (goingOn.length > 0) await clearTargets(plan, goingOn, manifest)
  await linkTablespaces(plan, owner)
  const { extracted, ...bytes } = await write(owner)
  await writeRecoverySettings(plan, owner)
  await syncExtracted(extracted)
  await syncFolder(dirname(plan.dataDirectory))
  signal.throwIfAborted()
  await finishTarget(plan.dataDirectory)
  return { files: manifest.files.count, bytes: plan.clusterBytes, ...(plan.delta && { delta: bytes }) }
}

/** Writes the files of a backup that builds upon no other, with its manifest. */
async function writeBackup(
  plan: RestorePlan,
  manifest: StoredManifest,
  owner: Owner,
  context: RestoreContext,
): Promise<WrittenChain> {
  const extracted = await extractShards(plan, { ...context, owner })
  await manifest.requireFiles(extracted.files, plan)
  context.events.emit('step', {
    text: `Checked ${manifest.files.count} files; writing the recovery settings`,
  })
  await manifest.write(join(plan.dataDirectory, 'backup_manifest'), owner)
  return { extracted, writtenBytes: plan.clusterBytes, keptBytes: 0 }
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
async function requireObjects({ backup, chain }: RestorePlan, { repository }: RestoreContext): Promise<void> {
  for (const link of chain) await requireObjectsOf(link, backup, repository)
}

async function requireObjectsOf(
  link: BackupRecord,
  { id }: BackupRecord,
  { storage }: Repository,
): Promise<void> {
  const stored = new Map<string, number>()
  const folder = backupPrefix(link.cluster, link.id)
  for await (const { key, bytes } of storage.list(folder)) stored.set(key, bytes)
  if (!stored.has(backupRecordKey(link.cluster, link.id)))
    throw new PgrecallError('absent', `backup ${link.id} was removed while the restore was planned`)
  for (const { name, kind, bytes, header } of link.objects) {
    const found = stored.get(folder + name)
    // A rotation of keys gives an encrypted object another header.
    const isWhole = header ? (found ?? 0) > bytes - header.bytes : found === bytes
    if (isWhole || kind === 'text' || kind === 'index') continue
    const what =
      found === undefined ? 'is missing from the repository' : `has ${found} bytes instead of ${bytes}`
    const whose = link.id === id ? 'of the backup' : `of ${link.id}, upon which backup ${id} builds,`
    throw new PgrecallError('damaged', `object ${folder}${name} ${whose} is damaged: it ${what}`, {
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
