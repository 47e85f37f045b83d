import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Ground } from '../ground.ts'
import { weigh } from '../weigh.ts'
import type { Tool } from './tool.ts'

/** `client-zstd` with workers came with this version. */
const FIRST_WITH_ZSTD = 15

export async function pgBasebackup({ cluster, jobs, scratch }: Ground): Promise<Tool> {
  const home = join(scratch.path, 'pg_basebackup')
  const { major, version } = cluster.programs

  return {
    name: 'pg_basebackup',
    version: async () =>
      major >= FIRST_WITH_ZSTD ? `${version}, tar, client-zstd, ${jobs} workers` : undefined,
    prepare: async () => {
      await scratch.folder('pg_basebackup')
    },
    backup: () => ({
      program: cluster.programs.path('pg_basebackup'),
      args: [
        `--pgdata=${join(home, 'backup')}`,
        '--format=tar',
        `--compress=client-zstd:level=1,workers=${jobs}`,
        // One archive that holds all: it restores with one tar command.
        '--wal-method=fetch',
        '--checkpoint=fast',
      ],
      env: cluster.connectionEnv,
    }),
    restore: (target) => ({
      program: 'sh',
      args: [
        '-c',
        'tar --extract --use-compress-program="zstd -d" --file="$1" --directory="$2" && sync -f "$2"',
        'sh',
        join(home, 'backup/base.tar.zst'),
        target,
      ],
    }),
    storedBytes: async () => (await weigh(join(home, 'backup'))).bytes,
    cleanup: () => rm(home, { recursive: true, force: true }),
  }
}
