import { existsSync } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type TableChecksum, tableChecksums } from '../lab/checksums.ts'
import type { Lab } from '../lab/lab.ts'

/** Whether a server could start in a directory: without this file it refuses. */
export function isStartable(dataDirectory: string): boolean {
  return existsSync(join(dataDirectory, 'global/pg_control'))
}

/** What is wrong with a restored directory: what PostgreSQL's own check says, and what a restore left behind. */
export async function problemsInRestored(lab: Lab, dataDirectory: string): Promise<string[]> {
  const problems: string[] = []
  await lab.cluster.run('pg_verifybackup', ['-n', '-e', dataDirectory]).catch((error: Error) => {
    problems.push(error.message)
  })
  const left = (await readdir(dataDirectory, { recursive: true })).filter((path) => path.includes('pgrecall'))
  return [...problems, ...left.map((path) => `${path} was left behind`)]
}

/** Starts a server on a restored directory, lets it recover, and stops it. @returns what its tables hold */
export async function recoveredTables(lab: Lab, dataDirectory: string): Promise<TableChecksum[]> {
  // It must not archive: this is a second life of the same cluster, beside the first one that goes on.
  const server = await lab.adopt(dataDirectory, { settings: { archive_mode: false } })
  await server.start()
  await server.waitForPromotion()
  const tables = await tableChecksums(server)
  await server.stop('immediate')
  return tables
}

let count = 0

/** A path for a restore, which is removed at the end. */
export function target(lab: Lab): { path: string } & AsyncDisposable {
  const path = join(lab.scratch.path, `restored-${++count}`)
  // A prefetcher may still be writing there.
  const remove = () => rm(path, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 })
  return { path, [Symbol.asyncDispose]: remove }
}
