import { isParent, type Link } from './chain.ts'

/** How all backups of a repository build upon each other. Each question costs what its answer is long: there may be thousands. */
export class Chains<Backup extends Link> {
  readonly #byId: ReadonlyMap<string, Backup>
  readonly #heights = new Map<Backup, number>()
  readonly #missing = new Map<Backup, string | undefined>()

  /** @param backups in any order */
  constructor(backups: readonly Backup[]) {
    this.#byId = new Map(backups.map((backup) => [backup.id, backup]))
  }

  /** The very backup that another one was built upon; undefined of a full one, and where that one is not there. */
  parentOf(backup: Backup): Backup | undefined {
    const candidate = backup.parent && this.#byId.get(backup.parent.id)
    return candidate && isParent(candidate, backup) ? candidate : undefined
  }

  /** What a backup builds upon, as far as it is there; the nearest first. */
  ancestorsOf(backup: Backup): Backup[] {
    const found = new Set<Backup>()
    for (let below = this.parentOf(backup); below && !found.has(below); below = this.parentOf(below))
      found.add(below)
    return [...found]
  }

  /** How many backups a backup builds upon, as far as they are there. */
  heightOf(backup: Backup): number {
    const way: Backup[] = []
    let end: Backup | undefined = backup
    for (; end && !this.#heights.has(end); end = this.parentOf(end)) {
      way.push(end)
      // So a circle, which leads nowhere, ends.
      this.#heights.set(end, 0)
    }
    let height = end ? this.#heights.get(end)! + 1 : 0
    for (const at of way.toReversed()) this.#heights.set(at, height++)
    return this.#heights.get(backup)!
  }

  /** The id of the link without which a backup cannot be restored; undefined where its chain is whole. */
  missingOf(backup: Backup): string | undefined {
    const way: Backup[] = []
    let end: Backup | undefined = backup
    for (; end && !this.#missing.has(end); end = this.parentOf(end)) {
      way.push(end)
      // So it is where the chain ends here, and in a circle, which leads to no full backup.
      this.#missing.set(end, end.parent?.id)
    }
    const missing = this.#missing.get(end ?? way.at(-1)!)
    for (const at of way) this.#missing.set(at, missing)
    return missing
  }
}

/** What a person is told of a backup whose chain is broken, behind its name. */
export function brokenText(missing: string): string {
  return `builds upon ${missing}, which is missing, or not the backup that it was then`
}
