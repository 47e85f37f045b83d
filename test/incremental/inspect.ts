import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import { parseLsn } from '../../src/postgres/lsn.ts'
import type { Cluster } from '../lab/cluster.ts'
import type { Lab } from '../lab/lab.ts'
import { Combined } from './combine.ts'
import { differenceOf, differences, unlikeSource } from './compare-files.ts'
import { dataFilesOf } from './data-files.ts'
import { databasesOf, rowSums, unlikeRows, wrongIndexes } from './row-sums.ts'

export interface Restored {
  record: BackupRecord
  dataDirectory: string
  /** The backup's links, unpacked, oldest first. */
  unpacked: string[]
}

export interface Expected {
  cluster: Cluster
  /** Whether nothing was written since the backup began. */
  quiet: boolean
  /** Whether a page that changes gets the LSN of a record at least once after each checkpoint. */
  hintsAreLogged: boolean
  checksums: boolean
}

/** What is wrong with a restored directory on which no server was started yet. @returns sentences */
export async function problemsInFiles(
  lab: Lab,
  { record, dataDirectory, unpacked }: Restored,
  { cluster, quiet, hintsAreLogged }: Expected,
): Promise<string[]> {
  const restored = dataFilesOf(dataDirectory)
  const problems: string[] = []
  if (existsSync(join(dataDirectory, 'backup_manifest'))) {
    problems.push(...(await problemOf(lab.cluster.run('pg_verifybackup', ['-n', '-e', dataDirectory]))))
  }
  problems.push(...unlikeCombined(new Combined(unpacked), restored))
  if (unpacked.length > 1 && cluster.programs.major >= 17) {
    problems.push(...(await unlikePostgres(lab, unpacked, restored)))
  }
  if (hintsAreLogged) {
    const since = parseLsn(record.start.lsn)!
    problems.push(...unlikeSource(dataFilesOf(cluster.dataDirectory), restored, since, quiet))
  }
  return problems
}

/** What is wrong with a recovered server, which is stopped at the end. @returns sentences */
export async function problemsInServer(copy: Cluster, { cluster, checksums }: Expected): Promise<string[]> {
  const [theirs, mine] = await Promise.all([rowSums(cluster), rowSums(copy)])
  const problems = unlikeRows(theirs, mine)
  await endPrepared(copy)
  for (const database of await databasesOf(copy)) {
    problems.push(...(await wrongIndexes(copy, database)))
    problems.push(...(await wronglyVisible(copy, database)))
  }
  if (copy.programs.major >= 14) {
    const amcheck = copy.run('pg_amcheck', ['--all', '--heapallindexed', '--install-missing'])
    problems.push(...(await problemOf(amcheck)))
  }
  await copy.stop()
  if (checksums) {
    problems.push(...(await problemOf(copy.run('pg_checksums', ['--check', '-D', copy.dataDirectory]))))
  }
  return problems
}

function unlikeCombined(combined: Combined, restored: ReturnType<typeof dataFilesOf>): string[] {
  const problems: string[] = []
  const paths = new Set(combined.paths())
  for (const path of restored.keys()) {
    if (!paths.has(path)) problems.push(`${path} was restored, and is not in the chain`)
  }
  for (const path of paths) {
    const file = restored.get(path)
    if (!file) problems.push(`${path} is in the chain, and was not restored`)
    else problems.push(...differenceOf(path, withoutParent(path, combined.read(path)), file, 'the chain'))
  }
  return problems
}

/** A restored backup builds upon nothing any more. */
function withoutParent(path: string, content: Buffer): Buffer {
  if (path !== 'backup_label') return content
  return Buffer.from(content.toString('latin1').replace(/^INCREMENTAL FROM .*\n/gm, ''), 'latin1')
}

async function unlikePostgres(
  lab: Lab,
  unpacked: string[],
  restored: ReturnType<typeof dataFilesOf>,
): Promise<string[]> {
  const output = join(lab.scratch.path, 'combined')
  try {
    const failed = await problemOf(lab.cluster.run('pg_combinebackup', ['-N', '-o', output, ...unpacked]))
    return failed.length > 0
      ? failed
      : differences(dataFilesOf(output), restored, 'what pg_combinebackup made')
  } finally {
    await rm(output, { recursive: true, force: true })
  }
}

/**
 * Up to 16 `pg_check_visible` takes rows for invisible that are newer than any transaction under way, also in another database,
 * where VACUUM does not.
 */
async function endPrepared(cluster: Cluster): Promise<void> {
  const prepared = await cluster.sql<{ gid: string; database: string }>(
    'SELECT gid, database FROM pg_prepared_xacts',
  )
  for (const { gid, database } of prepared) await cluster.sql(`ROLLBACK PREPARED '${gid}'`, { database })
}

/** Pages that the visibility map calls all-visible or all-frozen, and that are not. */
async function wronglyVisible(cluster: Cluster, database: string): Promise<string[]> {
  await using client = await cluster.connect(database)
  const { rowCount } = await client.query(`SELECT FROM pg_available_extensions WHERE name = 'pg_visibility'`)
  if (rowCount === 0) return []
  await client.query('CREATE EXTENSION IF NOT EXISTS pg_visibility')
  const { rows } = await client.query<{ name: string; tuples: string }>(`
    SELECT oid::regclass::text AS name, count(*) AS tuples
    FROM pg_class c, LATERAL (SELECT pg_check_visible(oid) UNION ALL SELECT pg_check_frozen(oid)) AS wrong
    WHERE relkind IN ('r', 'm', 't') AND relpersistence = 'p' GROUP BY oid`)
  return rows.map(
    ({ name, tuples }) => `${database}: ${tuples} tuples of ${name} are not as visible as its map says`,
  )
}

async function problemOf(run: Promise<unknown>): Promise<string[]> {
  return run.then(
    () => [],
    (error: Error) => [error.message],
  )
}
