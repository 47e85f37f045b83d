import { parseWalFile, timelineName } from '../postgres/wal-file.ts'

/** Where things lie in a repository. The whole layout is in this file and in docs/format.md. */
export const REPOSITORY_MARKER = 'pgrecall.json'

/** What a cluster may be called: it is a folder's name. */
export const CLUSTER_NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/

export const identityKey = (cluster: string) => `${cluster}/cluster.json`
export const catalogKey = (cluster: string) => `${cluster}/catalog.json`
/** What was verified, and when. */
export const verificationsKey = (cluster: string) => `${cluster}/verified.json`
/** What restores took. */
export const restoreRatesKey = (cluster: string) => `${cluster}/restore-rates.json`
export const locksPrefix = (cluster: string) => `${cluster}/locks/`
export const pinsPrefix = (cluster: string) => `${cluster}/pins/`
/** What persons want to keep: an object for each pin, `<backup>.<random>.json`. */
export const keptPrefix = (cluster: string) => `${cluster}/kept/`
/** What of the WAL retention has let go between backups that stay. */
export const thinnedWalKey = (cluster: string) => `${cluster}/wal-thinned.json`
/** There while a backup holds up the replay of a standby. */
export const pausedReplayKey = (cluster: string) => `${cluster}/replay-paused.json`
export const backupsPrefix = (cluster: string) => `${cluster}/backups/`
export const backupPrefix = (cluster: string, id: string) => `${cluster}/backups/${id}/`
/** The object whose presence makes a backup exist; written last, removed first. */
export const backupRecordKey = (cluster: string, id: string) => `${cluster}/backups/${id}/backup.json`
export const walPrefix = (cluster: string) => `${cluster}/wal/`

/** How an object below `wal/` is stored: as it is, or as an age file. */
export type WalForm = 'plain' | 'sealed'

/** What is appended to the name of every WAL file in the archive. */
const WAL_SUFFIXES: Record<WalForm, string> = { plain: '.zst', sealed: '.zst.age' }

/**
 * The key of a file of `pg_wal`: `wal/<timeline>/<log>/<name>.zst[.age]`, 256 segments of 16 MiB to a folder, histories
 * directly in their timeline's folder. Both forms of a file stand before those of the next one.
 * @param name must be a WAL file's name
 */
export function walKey(cluster: string, name: string, form: WalForm = 'plain'): string {
  return `${placeOf(cluster, name)}${WAL_SUFFIXES[form]}`
}

/** A segment that `wal-receive` is still receiving, as far as it has come; replaced as it grows, removed when it is whole. */
export function receivingKey(cluster: string, segment: string, form: WalForm = 'plain'): string {
  return `${placeOf(cluster, segment)}.receiving${WAL_SUFFIXES[form]}`
}

/** The note that a segment was given up, since too much WAL was waiting; it explains a gap. Never encrypted. */
export function droppedKey(cluster: string, segment: string): string {
  return `${placeOf(cluster, segment)}.dropped.json`
}

function placeOf(cluster: string, name: string): string {
  const file = parseWalFile(name)
  if (!file) throw new TypeError(`"${name}" is not the name of a WAL file`)
  const folder = file.kind === 'history' ? '' : `${timelineName(file.log)}/`
  return `${walPrefix(cluster)}${timelineName(file.timeline)}/${folder}${name}`
}

/** The WAL file's name in a key of either form, or undefined for any other object. */
export function walNameOf(key: string): string | undefined {
  return /([^/]*)\.zst(?:\.age)?$/.exec(key)?.[1]
}

const BACKUP_ID = /^\d{8}T\d{6}Z-[a-z]+$/

/** Whether a name has the form of a backup's id, `20261120T231500Z-full`. */
export function isBackupId(name: string): boolean {
  return BACKUP_ID.test(name)
}

/** Whether it is the id of a logical backup, `20261120T231500Z-logical`, whose record is of another kind. */
export function isLogicalId(name: string): boolean {
  return isBackupId(name) && name.endsWith('-logical')
}

export function isPhysicalId(name: string): boolean {
  return isBackupId(name) && !isLogicalId(name)
}

/** Whether a backup builds upon another one, by its id alone: upon which one, its record would tell. */
export function isIncrementId(id: string): boolean {
  return /-(?:incr|diff)$/.test(id)
}

/** When a backup began, by its id; whole seconds. */
export function momentOfBackupId(id: string): Date {
  const [, year, month, day, hour, minute, second] = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z/.exec(id) ?? []
  return new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`)
}

/** The id of a backup that begins now. @param second the moment, whole seconds count */
export function backupId(second: Date, type: string): string {
  return `${second.toISOString().replace(/[-:]|\.\d+/g, '')}-${type}`
}

/**
 * The id of the full backup that a chain is consolidated into, by that of its newest link: of the same moment, and right
 * behind it in order.
 */
export function synthId(newest: string): string {
  return newest.replace(/[a-z]+$/, 'synth')
}

/** A file's path in the data directory, by its group: those of a tablespace lie below its link. */
export function pathInCluster(group: string, path: string): string {
  return /^\d+$/.test(group) ? `pg_tblspc/${group}/${path}` : path
}
