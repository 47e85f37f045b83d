import { createHash } from 'node:crypto'
import { type FileHandle, open, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { walKey } from '../catalog/layout.ts'
import type { Repository } from '../catalog/repository.ts'
import { walForms } from '../catalog/wal-object.ts'
import { segmentNumberOf } from '../catalog/wal-ranges.ts'
import { PgrecallError } from '../errors.ts'
import { segmentName } from '../postgres/wal-file.ts'
import { readStoredSum, type StoredSum } from '../wal/stored-sum.ts'
import type { BackupRun, Taken } from './method.ts'

/**
 * Makes sure that the WAL of a backup in the repository is this server's: a clone that archives under the same name may
 * have stored other bytes as one of its segments. Compared is what the server still has; it keeps a segment until it is
 * archived, and then until the next checkpoint. Not called where the server may run on another host.
 * @throws PgrecallError `conflict`, which voids the backup
 */
export async function requireOwnWal(
  { request, signal }: BackupRun,
  { facts, ends }: Taken,
  repository: Repository,
): Promise<void> {
  const number = (name: string) => segmentNumberOf(name, facts.walSegmentBytes)
  for (let at = number(ends.start.walFile); at <= number(ends.stop.walFile); at++) {
    signal.throwIfAborted()
    const name = segmentName(ends.timeline, at, facts.walSegmentBytes)
    const stored = await storedSum(repository, request.cluster, name)
    if (!stored) continue
    const own = await sumOfOwn(join(facts.dataDirectory, 'pg_wal'), name, stored.salt)
    if (own !== undefined && stored.digest !== own) throw notOurs(name, repository.name)
  }
}

async function storedSum(
  repository: Repository,
  cluster: string,
  name: string,
): Promise<StoredSum | undefined> {
  for (const form of walForms(repository)) {
    const sum = await readStoredSum(repository.storage, walKey(cluster, name, form), form)
    if (sum) return sum
  }
  return undefined
}

function notOurs(name: string, repository: string): PgrecallError {
  return new PgrecallError(
    'conflict',
    `WAL segment ${name} in repository "${repository}" has other bytes than this server's, so the backup cannot be recovered with it`,
    {
      hint: 'another server, such as a clone, archives under this cluster name: give one of the two a name of its own under "clusters" in its configuration',
    },
  )
}

/** The SHA-256 of a salt and a segment of the server's; undefined when that is gone, or not certainly complete and still itself. */
async function sumOfOwn(pgWal: string, name: string, salt: Buffer): Promise<string | undefined> {
  const path = join(pgWal, name)
  let handle: FileHandle
  try {
    handle = await open(path, 'r')
  } catch {
    return undefined
  }
  try {
    if (!(await isComplete(pgWal, name))) return undefined
    const hash = createHash('sha256').update(salt)
    for await (const chunk of handle.createReadStream({ autoClose: false })) hash.update(chunk)
    // A segment that is not needed any more gets a new name before it is written over (RemoveXlogFile in xlog.c).
    const named = await stat(path).catch(() => undefined)
    return named?.ino === (await handle.stat()).ino ? hash.digest('hex') : undefined
  } finally {
    await handle.close()
  }
}

/** The server marks a segment for its archiver when the last byte is written; a standby, when it has received it. */
async function isComplete(pgWal: string, name: string): Promise<boolean> {
  for (const state of ['ready', 'done']) {
    if (await stat(join(pgWal, 'archive_status', `${name}.${state}`)).catch(() => undefined)) return true
  }
  return false
}
