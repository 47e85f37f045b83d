/**
 * What of a data directory belongs into a copy of it. Pure: it is asked with names and answers.
 * @see https://www.postgresql.org/docs/current/protocol-replication.html (BASE_BACKUP) and the lists at the top of
 *   src/backend/backup/basebackup.c
 */

/** Folders that are kept but empty: what they hold is made anew at server start. */
const EMPTIED = new Set([
  'pg_dynshmem',
  'pg_notify',
  'pg_replslot',
  'pg_serial',
  'pg_snapshots',
  'pg_stat_tmp',
  'pg_subtrans',
  'pg_wal',
  'pg_xlog',
])

/** Files at the top that describe the running server or another backup. */
const LEFT_OUT_AT_TOP = new Set([
  'postmaster.pid',
  'postmaster.opts',
  'current_logfiles',
  'postgresql.auto.conf.tmp',
  'recovery.signal',
  'standby.signal',
])
const LEFT_OUT_PREFIXES_AT_TOP = ['backup_label', 'tablespace_map', 'backup_manifest']

/** The folders below which relations lie: `global`, `base/<database>`, `PG_<version>_<catalog>/<database>`. */
const RELATION_FOLDER = /^(?:global|base\/\d+|(?:pg_tblspc\/\d+\/)?PG_[^/]+\/\d+)$/
const TEMPORARY_RELATION = /^t\d+_\d+(?:_[a-z]+)?(?:\.\d+)?$/
const RELATION_FORK = /^(\d+)(?:_(init|fsm|vm))?(?:\.\d+)?$/

/** Whether a folder is copied as an empty one. `path` is relative to the data directory. */
export function isEmptiedFolder(path: string): boolean {
  return EMPTIED.has(path)
}

/** The empty folders that a server expects and that a copy of an emptied one must hold. */
export function foldersInside(path: string, majorVersion: number): string[] {
  if (path !== 'pg_wal' && path !== 'pg_xlog') return []
  return majorVersion >= 17 ? ['archive_status', 'summaries'] : ['archive_status']
}

/**
 * Whether an entry is left out, with everything below it.
 * @param folder its folder, relative to the data directory or to the tablespace; empty at the top
 * @param isTop whether `folder` is the data directory itself (not a tablespace's top)
 */
export function isLeftOut(folder: string, name: string, isTop: boolean): boolean {
  if (name.startsWith('pgsql_tmp') || name.startsWith('pg_internal.init')) return true
  if (
    isTop &&
    (LEFT_OUT_AT_TOP.has(name) || LEFT_OUT_PREFIXES_AT_TOP.some((prefix) => name.startsWith(prefix)))
  ) {
    return true
  }
  return RELATION_FOLDER.test(folder) && TEMPORARY_RELATION.test(name)
}

/**
 * The names in one folder that belong to unlogged relations and are left out: all forks but the `_init` one,
 * from which the server makes the relation anew.
 */
export function unloggedForks(folder: string, names: readonly string[]): Set<string> {
  const left = new Set<string>()
  if (!RELATION_FOLDER.test(folder)) return left
  const forks = names.map((name) => ({ name, match: RELATION_FORK.exec(name) }))
  const unlogged = new Set(forks.filter(({ match }) => match?.[2] === 'init').map(({ match }) => match![1]))
  if (unlogged.size === 0) return left
  for (const { name, match } of forks) {
    if (match && match[2] !== 'init' && unlogged.has(match[1])) left.add(name)
  }
  return left
}

/** Whether a directory's names show that it is, or was, a data directory. */
export function looksLikeDataDirectory(names: readonly string[]): boolean {
  return names.includes('PG_VERSION') || names.includes('backup_manifest')
}
