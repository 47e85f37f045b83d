import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { chooseSource, copyStream, type Streamed, type StreamOptions } from '../../src/backup/stream-copy.ts'
import { Events } from '../../src/events.ts'
import type { BaseBackupRequest } from '../../src/postgres/base-backup.ts'
import type { ConnectionOptions } from '../../src/postgres/server.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { Cluster } from '../lab/cluster.ts'
import type { Scratch } from '../lab/scratch.ts'
import { giveToLabUser } from '../lab/user.ts'
import { plainStoreIn } from './opened.ts'

export const SOURCES = ['program', 'protocol'] as const
export const FOLDER = 'main/backups/streamed/'

export interface StreamedLab {
  scratch: Scratch
  cluster: Cluster
  storage: LocalStorage
}

export function connectionOf({ host, port, user }: Cluster): ConnectionOptions {
  return { host, port, user, database: 'postgres' }
}

export async function serverVersion(cluster: Cluster): Promise<number> {
  const [row] = await cluster.sql<{ version: number }>(
    `SELECT current_setting('server_version_num')::int AS version`,
  )
  return row!.version
}

export async function openStorageIn(scratch: Scratch): Promise<LocalStorage> {
  const storage = new LocalStorage(join(scratch.path, 'repository'))
  await storage.create()
  return storage
}

/** Fetches a base backup of a running cluster, with its WAL, one or the other way. */
export async function stream(
  { cluster, storage }: StreamedLab,
  kind: (typeof SOURCES)[number],
  asked: Partial<BaseBackupRequest> = {},
  options: Partial<StreamOptions> = {},
): Promise<Streamed> {
  const version = await serverVersion(cluster)
  const env = { ...process.env, PATH: `${cluster.programs.bin}:${process.env.PATH}` }
  const source = kind === 'program' ? await chooseSource({ version, tablespaces: [] }, env) : { kind }
  if (source.kind !== kind) throw new Error(`pg_basebackup ${Math.floor(version / 10_000)} is not installed`)
  return copyStream({
    source,
    asked: {
      connection: connectionOf(cluster),
      serverVersion: version,
      label: 'streamed',
      checkpoint: 'fast',
      wal: true,
      ...asked,
    },
    store: plainStoreIn(storage, FOLDER),
    codec: { method: 'zstd', level: 1 },
    pages: undefined,
    increment: undefined,
    shardBytes: 16 * 1024 * 1024,
    totalBytes: undefined,
    archiveTimeoutMs: 60_000,
    task: 'Receiving',
    events: new Events(),
    signal: new AbortController().signal,
    ...options,
  })
}

/** Puts a streamed cluster together again with tar and zstd. @returns a server on it, not yet started */
export async function putTogether(lab: StreamedLab, streamed: Streamed, name = 'copy'): Promise<Cluster> {
  const directory = await lab.scratch.folder(name)
  const spaces = new Map<string, string>()
  for (const { name: shard, group } of streamed.shards) {
    const target = /^\d+$/.test(group) ? join(lab.scratch.path, `${name}-${group}`) : directory
    await mkdir(target, { recursive: true })
    const object = join(lab.storage.location, FOLDER, shard)
    await execa('sh', ['-c', 'zstd -dc "$1" | tar -x --preserve-permissions -C "$2"', 'sh', object, target])
    if (target !== directory) spaces.set(group, target)
  }
  for (const [oid, target] of spaces) await symlink(target, join(directory, 'pg_tblspc', oid))
  for (const [path, content] of [
    ['backup_label', streamed.label],
    ['global/pg_control', streamed.control],
  ] as const) {
    await writeFile(join(directory, path), content, { mode: 0o600 })
    await giveToLabUser(join(directory, path))
  }
  await execa('chown', ['-R', `--reference=${directory}`, lab.scratch.path])
  return Cluster.adopt(directory, {
    within: lab.scratch,
    programs: lab.cluster.programs,
    name: `${name}-server`,
  })
}
