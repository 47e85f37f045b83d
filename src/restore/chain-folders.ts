import { closeSync, constants, fchmodSync, fchownSync, fstatSync, mkdirSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import { fsPath } from '../archive/file-name.ts'
import { PgrecallError, systemCode } from '../errors.ts'
import type { RestorePlan } from './plan.ts'
import { requireSafeMember } from './safe-path.ts'

/** Where the members of a group go, and what may not be among them. */
export class GroupPlaces {
  readonly #plan: RestorePlan
  readonly #links: readonly string[]

  constructor(plan: RestorePlan) {
    this.#plan = plan
    this.#links = plan.tablespaces.map(({ oid }) => `pg_tblspc/${oid}`)
  }

  /** @param group `base`, a tablespace's oid, or `wal` @throws PgrecallError `damaged` for a tablespace that nobody knows */
  rootOf(group: string): string {
    if (!isTablespace(group)) return this.#plan.dataDirectory
    const space = this.#plan.tablespaces.find(({ oid }) => oid === group)
    if (space) return space.to
    throw new PgrecallError(
      'damaged',
      `the record of backup ${this.#plan.backup.id} does not name the tablespace ${group}`,
    )
  }

  /** @throws PgrecallError `damaged` for a member that would lie anywhere but below its group's root */
  requireSafe(group: string, path: string, type: 'file' | 'directory'): void {
    requireSafeMember({ path, type }, isTablespace(group) ? [] : this.#links)
  }
}

export const isTablespace = (group: string) => /^\d+$/.test(group)

/** Makes the folders of a cluster, or brings those that are there to the right state. */
export class FolderMaker {
  readonly made = new Set<string>()
  readonly #owner: { uid: number; gid: number } | undefined

  /** @param roots that are there */
  constructor(roots: readonly string[], owner: { uid: number; gid: number } | undefined) {
    this.made = new Set(roots)
    this.#owner = owner
  }

  /** Makes a folder, and those above it that are not there. @param path a full one, below a root */
  make(path: string, mode = 0o700): void {
    if (this.made.has(path)) return
    this.make(dirname(path))
    this.made.add(path)
    try {
      mkdirSync(fsPath(path), { mode: mode & 0o777 })
      if (this.#owner) this.#mend(path, mode)
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw error
      this.#mend(path, mode)
    }
  }

  #mend(path: string, mode: number): void {
    const folder = openSync(fsPath(path), constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)
    try {
      const facts = fstatSync(folder)
      if (this.#owner && (facts.uid !== this.#owner.uid || facts.gid !== this.#owner.gid))
        fchownSync(folder, this.#owner.uid, this.#owner.gid)
      if ((facts.mode & 0o777) !== (mode & 0o777)) fchmodSync(folder, mode & 0o777)
    } finally {
      closeSync(folder)
    }
  }
}
