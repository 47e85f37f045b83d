import { readdirSync, realpathSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'

/** The plain files of a data directory with its tablespaces, by their path below it, and where they are. */
export type DataFiles = Map<string, string>

/**
 * What a server or a restore has of its own, and what says where a copy came from. The WAL is not part of a copy; of
 * `pg_wal` only folders are restored.
 */
const OWN =
  /^(?:pg_wal\/|pg_replslot\/|pg_stat_tmp\/|pg_notify\/|pg_dynshmem\/|pg_serial\/|pg_snapshots\/|pg_subtrans\/|(?:postgresql\.auto\.conf|recovery\.signal|standby\.signal|backup_manifest|postmaster\.(?:pid|opts)|current_logfiles)$)/

/** @param dataDirectory whose `pg_tblspc` has links, or folders as PostgreSQL's own tests have them */
export function dataFilesOf(dataDirectory: string): DataFiles {
  const files: DataFiles = new Map()
  const collect = (path: string, place: string) => {
    for (const entry of readdirSync(place, { withFileTypes: true })) {
      const below = path === '' ? entry.name : `${path}/${entry.name}`
      const at = join(place, entry.name)
      if (entry.isDirectory()) collect(below, at)
      else if (path === 'pg_tblspc' && entry.isSymbolicLink()) collect(below, realpathSync(at))
      else if (entry.isFile() && !OWN.test(below)) files.set(below, at)
    }
  }
  collect('', dataDirectory)
  return files
}

/** A relation's file of which the backup has none: of temporary relations, and of unlogged ones but their `_init`. */
export function isLeftOut(files: DataFiles, path: string): boolean {
  const name = basename(path)
  if (/^(?:t\d+_|pg_internal\.init|pgsql_tmp)/.test(name)) return true
  const number = /^(\d+)(?:_fsm|_vm)?(?:\.\d+)?$/.exec(name)?.[1]
  return number !== undefined && files.has(`${path.slice(0, -name.length)}${number}_init`)
}

export function sizeOf(file: string): number {
  return statSync(file).size
}
