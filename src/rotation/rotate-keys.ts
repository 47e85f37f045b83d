import type { Sealer } from '../archive/age.ts'
import { readSealHeader } from '../archive/age.ts'
import { readBackupRecord } from '../catalog/backup-record.ts'
import { loadCatalog, saveCatalog } from '../catalog/catalog.ts'
import { requireRepository } from '../catalog/identity.ts'
import {
  backupPrefix,
  backupRecordKey,
  backupsPrefix,
  isBackupId,
  isLogicalId,
  walPrefix,
} from '../catalog/layout.ts'
import { acquireLock } from '../catalog/lock.ts'
import { readLogicalRecord } from '../catalog/logical-record.ts'
import type { Repository } from '../catalog/repository.ts'
import { isSealed } from '../catalog/sealed-object.ts'
import { walObjectOf } from '../catalog/wal-object.ts'
import { PgrecallError } from '../errors.ts'
import type { Events } from '../events.ts'
import { sideBySide } from '../side-by-side.ts'
import type { ObjectFacts } from '../storage/storage.ts'
import { type HeaderFacts, Rewrap, type RewrapCounts, startOf } from './rewrap.ts'
import { type RotatableRecord, rotatedRecord, storeRotatedRecord } from './rotated-record.ts'

export interface RotationRequest {
  cluster: string
  /** How many objects are worked on side by side. */
  jobs: number
  /** Everything is done but writing. */
  dryRun: boolean
}

export interface RotationContext {
  events: Events
  signal: AbortSignal
  now: () => Date
}

export interface RotationResult extends RewrapCounts {
  /** Records of backups that were written anew. */
  records: number
  /** Objects of backups and of the archive that are not encrypted; a rotation leaves them so. */
  plain: number
  /** Segments that are being received, and are for earlier recipients: who receives them replaces them. */
  receiving: number
}

/**
 * That this host reads what is stored, and will read it after a rotation: the way back is not given up before the way on
 * is proven.
 * @throws PgrecallError `config` where nothing is encrypted, `key` without a secret key, `refused` where none reads what is
 *   encrypted from now on
 */
export async function requireKeys({ name, keys }: Repository): Promise<Sealer> {
  const { sealer, opener } = keys
  if (!sealer) {
    throw new PgrecallError('config', `the repository "${name}" has no public keys to encrypt to`, {
      hint: `name them under repositories.${name}.encryption.recipients`,
    })
  }
  await opener.identities()
  const probe = await sealer.seal()
  await opener.openWhole(Buffer.concat([probe.header, probe.encryptWhole([])])).catch((error) => {
    if (!(error instanceof PgrecallError) || error.kind !== 'key') throw error
    throw new PgrecallError(
      'refused',
      `no secret key of this host could read what is encrypted to the recipients of the repository "${name}"`,
      {
        hint: 'name the file with the new secret key as identityFile too, beside the old one: it takes a list',
        cause: error,
      },
    )
  })
  return sealer
}

/**
 * Encrypts the keys of everything that is stored of a cluster anew, for the recipients that the repository has now. The
 * contents stay as they are. What has the present recipients is left alone, so a run that was stopped is gone on with by
 * the next one.
 * @throws PgrecallError as `requireKeys`, `busy` while somebody else holds the lock, `repository` where the store fails
 */
export async function rotateKeys(
  request: RotationRequest,
  repository: Repository,
  context: RotationContext,
): Promise<RotationResult> {
  const { cluster, dryRun } = request
  const { storage } = repository
  const sealer = await requireKeys(repository)
  await requireRepository(storage)
  if (dryRun) return new Rotation(request, repository, sealer, context).run()
  const { events, now } = context
  const onWarning = (text: string) => events.emit('warning', { text })
  await using lock = await acquireLock(storage, cluster, { ...context, purpose: 'key rotate', onWarning })
  const signal = AbortSignal.any([context.signal, lock.lost])
  const result = await new Rotation(request, repository, sealer, { ...context, signal }).run()
  // It is derived, and has sizes and recipients too. A run that was killed before this leaves it to the next one.
  await saveCatalog(storage, await loadCatalog(storage, cluster, { fresh: true }), now())
  if (result.rewrapped > 0) warnOfOldVersions(repository, events)
  return result
}

/** A store that locks keeps what was replaced, as an old version. */
function warnOfOldVersions({ name, storage: { address } }: Repository, events: Events): void {
  if (address.type !== 's3' || !address.objectLock) return
  const text = `repository "${name}" keeps what was replaced until its lock ends: so long the old versions can be read with the old keys`
  events.emit('warning', { text })
}

class Rotation {
  readonly #request: RotationRequest
  readonly #repository: Repository
  readonly #sealer: Sealer
  readonly #context: RotationContext
  readonly #rewrap: Rewrap
  readonly #task: string
  #records = 0
  #plain = 0
  #receiving = 0
  #seen = { items: 0, bytes: 0 }

  constructor(
    request: RotationRequest,
    repository: Repository,
    sealer: Sealer,
    context: Pick<RotationContext, 'events' | 'signal' | 'now'>,
  ) {
    this.#request = request
    this.#repository = repository
    this.#sealer = sealer
    this.#context = context
    this.#rewrap = new Rewrap(repository, sealer, { dryRun: request.dryRun, signal: context.signal })
    this.#task = `${request.dryRun ? 'Examining' : 'Rewrapping'} "${repository.name}"`
  }

  async run(): Promise<RotationResult> {
    const { storage } = this.#repository
    for await (const id of storage.folders(backupsPrefix(this.#request.cluster))) {
      if (isBackupId(id)) await this.#backup(id)
    }
    // There may be millions: nothing is kept of each.
    await sideBySide(this.#wal(), this.#request.jobs, async (facts) => {
      await this.#object(facts)
    })
    this.#context.events.emit('progressEnd', { task: this.#task })
    return {
      ...this.#rewrap.counts,
      records: this.#records,
      plain: this.#plain,
      receiving: this.#receiving,
    }
  }

  /** What an unfinished backup has left is somebody's data too. */
  async #backup(id: string): Promise<void> {
    const { cluster, jobs, dryRun } = this.#request
    const folder = backupPrefix(cluster, id)
    const headers = new Map<string, HeaderFacts | undefined>()
    await sideBySide(this.#sealedIn(folder), jobs, async (facts) => {
      headers.set(facts.key.slice(folder.length), await this.#object(facts))
    })
    const record = await this.#record(id)
    if (!record) return
    this.#plain += record.objects.filter(({ name, kind }) => !isSealed(name) && kind !== 'text').length
    const rotated = rotatedRecord(record, headers, this.#sealer)
    if (!rotated) return
    this.#context.signal.throwIfAborted()
    if (!dryRun) await storeRotatedRecord(this.#repository.storage, rotated)
    this.#records++
  }

  /** One that cannot be believed is left as it is. */
  async #record(id: string): Promise<RotatableRecord | undefined> {
    const { cluster } = this.#request
    const { storage } = this.#repository
    try {
      return isLogicalId(id)
        ? await readLogicalRecord(storage, cluster, id)
        : await readBackupRecord(storage, cluster, id)
    } catch (error) {
      if (!(error instanceof PgrecallError) || error.kind !== 'damaged') throw error
      this.#rewrap.fail(backupRecordKey(cluster, id), error)
      return undefined
    }
  }

  async *#sealedIn(prefix: string): AsyncGenerator<ObjectFacts> {
    const { signal } = this.#context
    for await (const facts of this.#repository.storage.list(prefix, { signal })) {
      if (isSealed(facts.key)) yield facts
    }
  }

  async *#wal(): AsyncGenerator<ObjectFacts> {
    const { cluster } = this.#request
    const { signal } = this.#context
    for await (const facts of this.#repository.storage.list(walPrefix(cluster), { signal })) {
      const kind = walObjectOf(cluster, facts.key)?.kind
      if (kind === undefined || kind === 'dropped') continue
      if (!isSealed(facts.key)) this.#plain++
      else if (kind === 'receiving') await this.#lookAtReceiving(facts.key)
      else yield facts
    }
  }

  /** It grows without a lock: replaced by what was read a moment before, it would get shorter. */
  async #lookAtReceiving(key: string): Promise<void> {
    const start = await startOf(this.#repository, key, this.#context.signal)
    const header = start && readSealHeader(start)
    if (header && !this.#sealer.hasSealed(header)) this.#receiving++
  }

  async #object({ key, bytes }: ObjectFacts): Promise<HeaderFacts | undefined> {
    const header = await this.#rewrap.object(key)
    this.#seen.items++
    this.#seen.bytes += bytes
    this.#context.events.emit('progress', { task: this.#task, total: undefined, ...this.#seen })
    return header
  }
}
