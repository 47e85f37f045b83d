import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { storeManifest } from '../../src/backup/closing-objects.ts'
import type { BackupMethod, BackupRun, ParentBackup, Taken } from '../../src/backup/method.ts'
import { KeptShards } from '../../src/backup/resume.ts'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import { type CopiedFile, readShardIndex } from '../../src/catalog/shard-index.ts'
import { Events } from '../../src/events.ts'
import { formatLsn } from '../../src/postgres/lsn.ts'
import { parseHistory } from '../../src/postgres/timeline-history.ts'
import { plainRepository } from '../lab/repositories.ts'
import { asLabUser } from '../lab/user.ts'
import { plainStoreIn } from './opened.ts'
import type { StreamedLab } from './streamed.ts'

export interface Link {
  taken: Taken
  folder: string
}

/** Backups of one running cluster, each upon the one before. The folder of each has shards, indexes and a manifest. */
export class StreamChain {
  readonly events = new Events()
  readonly links: Link[] = []
  readonly #lab: StreamedLab

  constructor(lab: StreamedLab) {
    this.#lab = lab
  }

  async add(method: BackupMethod): Promise<Link> {
    const id = `link-${this.links.length}`
    const folder = `main/backups/${id}/`
    const run = {
      request: {
        label: '',
        codec: { method: 'zstd', level: 1 },
        jobs: 1,
        checkpoint: 'fast',
        // It brings all WAL along that the combined directory needs.
        standalone: true,
        shardBytes: 8 * 1024 * 1024,
        archiveTimeoutMs: 60_000,
      },
      store: plainStoreIn(this.#lab.storage, folder),
      events: this.events,
      signal: new AbortController().signal,
      id,
      indexIdentities: [],
      parent: this.parent,
      kept: KeptShards.none(),
    } as unknown as BackupRun
    const taken = await method.take(run)
    await storeManifest(run, taken)
    const link = { taken, folder }
    this.links.push(link)
    return link
  }

  /** What the next link builds upon. */
  get parent(): ParentBackup | undefined {
    const last = this.links.at(-1)
    if (!last) return undefined
    const { start, timeline } = last.taken.ends
    const record = { id: `link-${this.links.length - 1}`, timeline, start: { lsn: formatLsn(start.lsn) } }
    const path = join(this.#lab.storage.location, last.folder, 'backup_manifest.zst')
    return {
      record: record as BackupRecord,
      history: parseHistory('', 1),
      async *manifest() {
        const { stdout } = await execa('zstd', ['-dcq', path], {
          encoding: 'buffer',
          stripFinalNewline: false,
        })
        yield Buffer.from(stdout)
      },
    } as unknown as ParentBackup
  }

  /** What the indexes of a link say, by the path in the cluster. */
  async filesOf({ folder, taken }: Link): Promise<Map<string, CopiedFile>> {
    const repository = plainRepository('local', this.#lab.storage)
    const files = new Map<string, CopiedFile>()
    for (const { group, index } of taken.shards.filter((shard) => shard.group !== 'wal')) {
      const read = await readShardIndex(repository, folder + index.local!.name)
      for await (const file of read!.files) {
        files.set(group === 'base' ? file.path : `pg_tblspc/${group}/${file.path}`, file)
      }
    }
    return files
  }

  /** Unpacks all links, and lets PostgreSQL's own program make one directory of them. */
  async combine(name: string): Promise<string> {
    const folders: string[] = []
    for (const link of this.links) folders.push(await this.#unpack(link, `${name}-${folders.length}`))
    const output = join(this.#lab.scratch.path, name)
    await execa(
      this.#lab.cluster.programs.path('pg_combinebackup'),
      ['--output', output, '--no-sync', ...folders],
      this.#lab.cluster.childOptions,
    )
    return output
  }

  /** Tablespaces become folders, which PostgreSQL's programs take for in-place ones. */
  async #unpack({ taken, folder }: Link, name: string): Promise<string> {
    const directory = await this.#lab.scratch.folder(name)
    const from = join(this.#lab.storage.location, folder)
    for (const { name: shard, group } of taken.shards) {
      const target = /^\d+$/.test(group) ? join(directory, 'pg_tblspc', group) : directory
      await mkdir(target, { recursive: true })
      await execa('sh', ['-c', 'zstd -dcq "$1" | tar -x -C "$2"', 'sh', join(from, shard), target])
    }
    await execa('sh', [
      '-c',
      'zstd -dcq "$1/backup_manifest.zst" > "$2/backup_manifest"',
      'sh',
      from,
      directory,
    ])
    if ('uid' in asLabUser) await execa('chown', ['-R', `${asLabUser.uid}:${asLabUser.gid}`, directory])
    return directory
  }
}

/** The label of an unpacked or combined backup. */
export const labelIn = (directory: string) => readFile(join(directory, 'backup_label'), 'utf8')
