import { SEAL_SUFFIX } from '../archive/age.ts'
import { readBackupRecord } from '../catalog/backup-record.ts'
import { readIdentity } from '../catalog/identity.ts'
import { backupPrefix, isLogicalId } from '../catalog/layout.ts'
import { readLogicalRecord } from '../catalog/logical-record.ts'
import type { Repository } from '../catalog/repository.ts'
import { statWalFile } from '../catalog/wal-object.ts'
import { PgrecallError } from '../errors.ts'
import { segmentName } from '../postgres/wal-file.ts'
import type { AnyRecord, FoundDamage, Mend } from './damage.ts'

/** The record of a backup of either kind. @throws PgrecallError `damaged` where it cannot be believed */
export function readAnyRecord(
  { storage }: Repository,
  cluster: string,
  id: string,
): Promise<AnyRecord | undefined> {
  return isLogicalId(id) ? readLogicalRecord(storage, cluster, id) : readBackupRecord(storage, cluster, id)
}

/** The name of an object without what says that it is encrypted. */
export const plainNameOf = (name: string) =>
  name.endsWith(SEAL_SUFFIX) ? name.slice(0, -SEAL_SUFFIX.length) : name

/** Whether two records are of the same backup, in two repositories. */
export function isTwin(one: AnyRecord, other: AnyRecord): boolean {
  return (
    one.id === other.id &&
    one.systemIdentifier === other.systemIdentifier &&
    one.startedAt === other.startedAt &&
    (one.method === 'logical' || other.method === 'logical' || one.start.lsn === other.start.lsn)
  )
}

/** The same object of the same backup elsewhere. Compression is the same in all repositories; encryption need not be. */
export function twinOf<Kind extends AnyRecord>(
  object: AnyRecord['objects'][number],
  record: Kind,
): Kind['objects'][number] | undefined {
  const name = plainNameOf(object.name)
  return (record.objects as Kind['objects'][number][]).find(
    (other) =>
      plainNameOf(other.name) === name &&
      other.kind === object.kind &&
      other.plainBytes === object.plainBytes &&
      (other.name !== object.name ||
        name !== object.name ||
        other.sha256 === object.sha256 ||
        object.kind === 'index' ||
        object.kind === 'text'),
  )
}

/**
 * Looks for copies of damaged objects in the other repositories of the cluster: they are there, with all of their bytes. Whether
 * these are right is seen when they are read.
 */
export class Twins {
  readonly #cluster: string
  readonly #others: readonly Repository[]
  readonly #records = new Map<string, Promise<AnyRecord | undefined>>()

  constructor(cluster: string, others: readonly Repository[]) {
    this.#cluster = cluster
    this.#others = others
  }

  /** @param own the record of the damaged object's backup, where it can be read @returns the first repository that has one */
  async find(damage: FoundDamage, own: AnyRecord | undefined, segmentBytes: number): Promise<Mend> {
    for (const repository of this.#others) {
      try {
        const text = await this.#copyIn(repository, damage, own, segmentBytes)
        if (text !== undefined) return { outcome: 'healable', repository: repository.name, text }
      } catch (error) {
        if (!(error instanceof PgrecallError)) throw error
      }
    }
    if (damage.place.kind === 'marker' || (own && damage.object?.kind === 'text'))
      return { outcome: 'healable', text: 'it can be made anew' }
    return {
      outcome: 'lost',
      text: this.#others.length === 0 ? 'there is no other repository' : 'no other repository has it',
    }
  }

  /** The record of the same backup in another repository; undefined where there is none. */
  async recordIn(
    repository: Repository,
    id: string,
    own: AnyRecord | undefined,
  ): Promise<AnyRecord | undefined> {
    const key = `${repository.name}/${id}`
    let reading = this.#records.get(key)
    if (!reading) {
      reading = readAnyRecord(repository, this.#cluster, id)
      this.#records.set(key, reading)
    }
    const record = await reading
    return record && (!own || isTwin(own, record)) ? record : undefined
  }

  async #copyIn(
    repository: Repository,
    { place, object, key }: FoundDamage,
    own: AnyRecord | undefined,
    segmentBytes: number,
  ): Promise<string | undefined> {
    const { storage, name } = repository
    switch (place.kind) {
      case 'identity':
        return (
          (await readIdentity(storage, this.#cluster)) && `repository "${name}" says whose the cluster is`
        )
      case 'record':
        return (
          (await this.recordIn(repository, place.backup, own)) && `repository "${name}" has the whole backup`
        )
      case 'object': {
        const record = own && (await this.recordIn(repository, place.backup, own))
        const twin = record && object && twinOf(object, record)
        if (!twin || object.kind === 'text') return undefined
        const facts = await storage.stat(backupPrefix(this.#cluster, place.backup) + twin.name)
        return facts?.bytes === twin.bytes ? `repository "${name}" has ${facts.key}` : undefined
      }
      case 'wal': {
        if (place.file.kind === 'receiving') return undefined
        const facts =
          place.file.kind === 'dropped'
            ? await storage.stat(key)
            : await statWalFile(repository, this.#cluster, place.file.name)
        return facts && `repository "${name}" has ${facts.key}`
      }
      case 'missing': {
        for (const number of [place.first, place.last]) {
          const file = segmentName(place.timeline, number, segmentBytes)
          if (!(await statWalFile(repository, this.#cluster, file))) return undefined
        }
        return `repository "${name}" has ${place.first === place.last ? 'it' : 'them'}`
      }
      default:
        return undefined
    }
  }
}
