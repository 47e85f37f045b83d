import { join } from 'node:path'
import { zstdDecompressSync } from 'node:zlib'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import type { Consolidation } from '../../src/consolidation/consolidate.ts'
import { readObject } from '../../src/storage/storage.ts'
import { answerOf, backUp } from '../backup/commands.ts'
import { addTablespace } from '../crash/small-lab.ts'
import { Lab, type LabOptions } from '../lab/lab.ts'
import { findPrograms } from '../lab/programs.ts'
import { readManifest } from '../postgres/whole-manifest.ts'

/** What `consolidate --json` answers for each repository. */
export interface Answer extends Consolidation {
  repository: string
  dryRun: boolean
  error?: { kind: string; message: string }
}

/** Which server can say by itself what has changed, and comes with pg_combinebackup. */
export const summarises = () => (findPrograms()?.major ?? 0) >= 17

/** A lab whose cluster has a few tables and two tablespaces; so far without a backup. */
export async function labWithTables(options: LabOptions = {}): Promise<Lab> {
  const settings = { ...(summarises() ? { summarize_wal: true } : {}), ...options.settings }
  const lab = await Lab.create({ ...options, settings })
  await lab.cluster.sql(
    `CREATE TABLE rows AS SELECT n AS id, md5(n::text) AS text FROM generate_series(1, 20000) n`,
  )
  await lab.cluster.sql(
    `CREATE TABLE shrinking AS SELECT n AS id, md5(n::text) AS text FROM generate_series(1, 9000) n`,
  )
  await lab.cluster.sql(
    'CREATE TABLE without_rows (id int); CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY)',
  )
  await addTablespace(lab, 'one')
  await addTablespace(lab, 'two')
  return lab
}

/** Takes a full backup and incremental ones, with changes of all kinds in between. @returns their records, oldest first */
export async function takeChain(lab: Lab, args: string[] = []): Promise<BackupRecord[]> {
  const { cluster } = lab
  const chain = [await backUp(lab, ['--type', 'full', ...args])]
  const add = async () => chain.push(await backUp(lab, ['--type', 'incr', ...args]))
  await cluster.sql('UPDATE rows SET id = -id WHERE id % 1000 = 1; INSERT INTO in_two SELECT 5000')
  await cluster.sql('CREATE TABLE later AS SELECT generate_series(1, 5000) AS n; TRUNCATE without_rows')
  await add()
  await cluster.sql('DELETE FROM shrinking WHERE id > 2000')
  await cluster.sql('VACUUM shrinking')
  await cluster.sql('DROP TABLE in_two; UPDATE in_one SET n = n + 1 WHERE n < 10')
  await add()
  await cluster.sql('UPDATE rows SET text = upper(text) WHERE abs(id) % 1000 = 2')
  await cluster.sql("INSERT INTO shrinking SELECT n, 'grown' FROM generate_series(1, 100) n")
  await add()
  return chain
}

/** Runs `consolidate` where there is one repository. */
export async function consolidated(lab: Lab, args: string[] = []): Promise<Answer> {
  const [answer] = await answerOf<Answer[]>(lab, ['consolidate', ...args])
  return answer!
}

/** What the manifest of a backup lists, by path; of a repository that is not encrypted. */
export async function filesInManifest(
  lab: Lab,
  { id, objects }: BackupRecord,
  repository = 'local',
): Promise<Map<string, { size: number; checksum: string | undefined }>> {
  const name = objects.find(({ kind }) => kind === 'manifest')!.name
  const stored = (await readObject(lab.repositories[repository]!.storage, join('main/backups', id, name)))!
  return filesOf(name.endsWith('.zst') ? zstdDecompressSync(stored) : stored)
}

/** What a manifest lists, by path. */
export function filesOf(manifest: Buffer): Map<string, { size: number; checksum: string | undefined }> {
  return new Map(readManifest(manifest).map(({ path, size, checksum }) => [path, { size, checksum }]))
}

/** What tells a restore where to put the tablespaces. @param name of the place, in the scratch */
export function spacesOf(lab: Lab, name: string): string[] {
  return ['one', 'two'].flatMap((space) => [
    '--tablespace',
    `${space}=${join(lab.scratch.path, `${name}-${space}`)}`,
  ])
}
