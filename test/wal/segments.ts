import { randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { walKey } from '../../src/catalog/layout.ts'
import type { Lab, LabOptions } from '../lab/lab.ts'
import { giveToLabUser } from '../lab/user.ts'

/** A lab whose server archives nothing by itself and keeps its WAL, in segments that are quickly read and written. */
export const SMALL_SEGMENTS: LabOptions = {
  archive: false,
  initdb: ['--wal-segsize=1'],
  settings: { wal_keep_size: '1GB' },
}

/** Switches to a new segment. @returns the name of the one that is finished now and stays in `pg_wal` */
export async function finishSegment(lab: Lab): Promise<string> {
  const [row] = await lab.cluster.sql<{ name: string }>(
    `SELECT pg_walfile_name(pg_logical_emit_message(false, 'lab', 'segment')) AS name`,
  )
  await lab.cluster.sql('SELECT pg_switch_wal()')
  return row!.name
}

/** Copies a file of `pg_wal` to another folder of the lab's user, changed or not. @returns the copy's path */
export async function copyTo(
  folder: string,
  source: string,
  change: (bytes: Buffer) => Buffer = (bytes) => bytes,
  name = source.slice(dirname(source).length + 1),
): Promise<string> {
  const path = join(folder, name)
  await writeFile(path, change(await readFile(source)))
  await giveToLabUser(path)
  return path
}

/** The same segment with other content behind its first page: what a clone of the server would write. */
export function withOtherContent(segment: Buffer): Buffer {
  const changed = Buffer.from(segment)
  randomBytes(64).copy(changed, 100_000)
  return changed
}

/** Where a WAL file lies in the lab's repository. */
export function objectOf(lab: Lab, name: string, repository = lab.repository): string {
  return join(repository, walKey('main', name))
}
