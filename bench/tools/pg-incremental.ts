import { constants } from 'node:fs'
import { copyFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Ground } from '../ground.ts'
import { weigh } from '../weigh.ts'
import type { ChainRestore, ChainTool } from './tool.ts'

/** WAL summaries, `pg_basebackup --incremental` and `pg_combinebackup` came with this version. */
const FIRST = 17
/** `pg_combinebackup --link` came with this one. */
const FIRST_WITH_LINKS = 18

/** Unpacks every link of the chain, several at once, and has them combined. */
const UNPACK_AND_COMBINE = `
  target=$1 staging=$2 jobs=$3 combine=$4 mode=$5
  shift 5
  printf '%s\\n' "$@" | xargs -P "$jobs" -I '{}' sh -e -c '
    to=$2/\${1##*/}
    mkdir "$to"
    tar --extract --use-compress-program="zstd -d" --file="$1/base.tar.zst" --directory="$to"
    cp "$1/backup_manifest" "$to"
  ' sh '{}' "$staging" &&
  exec "$combine" "$mode" --output="$target" "$staging"/*`

/** PostgreSQL's own: `pg_basebackup --incremental` from WAL summaries, and `pg_combinebackup`. */
export async function pgIncremental({ cluster, jobs, scratch }: Ground): Promise<ChainTool> {
  const home = join(scratch.path, 'pg_incremental')
  const { major, version } = cluster.programs
  const links: string[] = []
  const take = (...args: string[]) => {
    // Names in the order of the chain, also as the shell's * sorts them.
    const link = join(home, String(links.length).padStart(3, '0'))
    links.push(link)
    return {
      program: cluster.programs.path('pg_basebackup'),
      args: [
        `--pgdata=${link}`,
        '--format=tar',
        `--compress=client-zstd:level=1,workers=${jobs}`,
        '--wal-method=fetch',
        '--checkpoint=fast',
        ...args,
      ],
      env: cluster.connectionEnv,
    }
  }
  const restoreBy = (mode: string): ChainRestore => ({
    name: `pg_combinebackup ${mode}`,
    restore: (target, staging) => {
      const combine = cluster.programs.path('pg_combinebackup')
      const script = [UNPACK_AND_COMBINE, 'sh', target, staging, String(jobs), combine, mode, ...links]
      return { program: 'sh', args: ['-c', ...script] }
    },
  })
  const modes = [
    '--copy',
    ...(major >= FIRST_WITH_LINKS ? ['--link'] : []),
    ...((await canClone(scratch.path)) ? ['--clone'] : []),
    '--copy-file-range',
  ]

  return {
    name: 'pg_basebackup',
    reader: 'server',
    version: async () =>
      major >= FIRST ? `${version}, --incremental, tar, client-zstd, ${jobs} workers` : undefined,
    prepare: async () => {
      links.length = 0
      await scratch.folder('pg_incremental')
    },
    backup: () => take(),
    incremental: () => take(`--incremental=${join(links.at(-1)!, 'backup_manifest')}`),
    chainRestores: modes.map(restoreBy),
    storedBytes: async () => (await weigh(home)).bytes,
    cleanup: () => rm(home, { recursive: true, force: true }),
  }
}

/** Whether the filesystem lets files share their blocks. */
async function canClone(folder: string): Promise<boolean> {
  const [original, clone] = [join(folder, 'original'), join(folder, 'clone')]
  await writeFile(original, 'some text')
  try {
    await copyFile(original, clone, constants.COPYFILE_FICLONE_FORCE)
    return true
  } catch {
    return false
  } finally {
    await rm(original)
    await rm(clone, { force: true })
  }
}
