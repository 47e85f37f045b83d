import type { Storage } from '../storage/storage.ts'
import type { BackupSummary } from './backup-record.ts'
import type { Catalog } from './catalog.ts'
import { Chains } from './chains.ts'
import { backupsPrefix } from './layout.ts'
import { readVerifications, type Verifications } from './verification-file.ts'

/** An object that was found damaged or missing, and not mended since. */
export type DamagedObject = Pick<Verifications['damaged'][number], 'key' | 'reason'>

/** What no restore needs: instructions for people, and what tells of dumps without being one. */
const NEEDLESS = /^(?:RESTORE\.txt|(?:contents|fingerprints)\.jsonl(?:\.(?:zst|gz|age))*)$/
/** `base.0001.index.jsonl.zst.age`: where the files of a shard lie. */
const INDEX = /\.index\.jsonl(?:\.(?:zst|gz|age))*$/

/**
 * Which backups are known to be damaged, by what verifications left in the repository. It is told by the names of objects alone:
 * who asks has no records. What builds upon a damaged backup is damaged, too. Of WAL nothing is said here. Pure.
 */
export class KnownDamage {
  readonly #own = new Map<string, DamagedObject>()
  readonly #above = new Map<string, DamagedObject>()

  /** @param verifications undefined where nothing is remembered: then nothing is known */
  constructor(
    { cluster, backups, logical }: Pick<Catalog, 'cluster' | 'backups' | 'logical'>,
    verifications: Pick<Verifications, 'damaged'> | undefined,
  ) {
    const found = byBackup(cluster, verifications?.damaged ?? [])
    if (found.size === 0) return
    for (const { id } of logical) {
      const [first] = found.get(id) ?? []
      if (first) this.#own.set(id, first)
    }
    const chains = new Chains(backups)
    for (const backup of backups.toSorted((a, b) => chains.heightOf(a) - chains.heightOf(b)))
      this.#look(backup, found.get(backup.id) ?? [], chains.parentOf(backup))
  }

  /** What keeps a backup of either kind from being restored. */
  of({ id }: { id: string }): DamagedObject | undefined {
    return this.#own.get(id)
  }

  /** What keeps those from being restored that build upon a backup, and parts of itself: a full one is restored whole without its indexes. */
  above({ id }: { id: string }): DamagedObject | undefined {
    return this.#above.get(id)
  }

  #look({ id }: BackupSummary, found: readonly DamagedObject[], parent: BackupSummary | undefined): void {
    const below = parent && this.#above.get(parent.id)
    const own = parent ? found[0] : found.find(({ key }) => !INDEX.test(key))
    const damage = below ?? own
    const above = damage ?? found[0]
    if (damage) this.#own.set(id, damage)
    if (above) this.#above.set(id, above)
  }
}

/** The objects that restores need, by the ids of the backups in whose folders they lie. */
function byBackup(cluster: string, damaged: readonly DamagedObject[]): Map<string, DamagedObject[]> {
  const found = new Map<string, DamagedObject[]>()
  const folder = backupsPrefix(cluster)
  for (const { key, reason } of damaged) {
    const [id, name] = key.startsWith(folder) ? key.slice(folder.length).split('/') : []
    if (id === undefined || name === undefined || NEEDLESS.test(name)) continue
    const others = found.get(id)
    if (others) others.push({ key, reason })
    else found.set(id, [{ key, reason }])
  }
  return found
}

/**
 * Reads what is known. A file that is not there, or cannot be believed, says nothing.
 * @throws PgrecallError `repository` when there is no answer
 */
export async function readKnownDamage(
  storage: Pick<Storage, 'get'>,
  catalog: Pick<Catalog, 'cluster' | 'backups' | 'logical'>,
): Promise<KnownDamage> {
  return new KnownDamage(catalog, await readVerifications(storage, catalog.cluster))
}

/** What a person is told, behind the name of a backup. */
export const damagedText = ({ key, reason }: DamagedObject) => `is known to be damaged (${key}: ${reason})`

/** What to do about it. */
export const REPAIR_TEXT = '"pgrecall verify --repair" heals it where another repository has it'
