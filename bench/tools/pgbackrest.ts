import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import type { Ground } from '../ground.ts'
import { weigh } from '../weigh.ts'
import type { ChainTool, Tool } from './tool.ts'

/** Bundles of small files came with this version; they are to its advantage. */
const FIRST_WITH_BUNDLES = 2.39
/** So did incremental backups of blocks instead of whole files. */
const FIRST_WITH_BLOCKS = 2.46

/** Where pgBackRest keeps its repository, and how. */
export interface PgbackrestPlace {
  name: string
  /** Lines of its configuration. */
  lines(home: string): Promise<string[]>
  /** Of its backups. */
  storedBytes(home: string): Promise<number>
  /** Stores files in blocks, of which an incremental backup takes the changed ones. */
  blocks?: boolean
  /** Default: the one of PATH. */
  program?: string
}

const ON_DISK: PgbackrestPlace = {
  name: 'pgbackrest',
  lines: async (home) => [`repo1-path=${join(home, 'repository')}`],
  storedBytes: async (home) => (await weigh(join(home, 'repository/backup'))).bytes,
}

export const pgbackrest = pgbackrestIn(ON_DISK)

/** As one sets it up who wants incremental backups. */
export function pgbackrestWithBlocks(program?: string): (ground: Ground) => Promise<Tool & ChainTool> {
  return pgbackrestIn({ ...ON_DISK, blocks: true, ...(program && { program }) })
}

export function pgbackrestIn(place: PgbackrestPlace): (ground: Ground) => Promise<Tool & ChainTool> {
  return (ground) => toolIn(place, ground)
}

async function toolIn(place: PgbackrestPlace, { cluster, jobs, scratch }: Ground): Promise<Tool & ChainTool> {
  const { program = 'pgbackrest' } = place
  const home = join(scratch.path, 'pgbackrest')
  const configFile = join(home, 'pgbackrest.conf')
  const answer = await execa(program, ['version'], { reject: false })
  const version = /\d+\.\d+\S*/.exec(answer.stdout ?? '')?.[0]
  const has = (first: number) => Number.parseFloat(version ?? '0') >= first
  const special = [
    ...(has(FIRST_WITH_BUNDLES) ? ['repo1-bundle=y'] : []),
    ...(place.blocks && has(FIRST_WITH_BLOCKS) ? ['repo1-block=y'] : []),
  ]
  const command = (...args: string[]) => ({
    program,
    args: [`--config=${configFile}`, '--stanza=main', ...args],
  })
  const restore = (target: string) => command(`--pg1-path=${target}`, 'restore')

  return {
    name: place.name,
    reader: 'command',
    version: async () => version && [version, ...special].join(', '),
    prepare: async () => {
      await scratch.folder('pgbackrest')
      const { dataDirectory, host, port, user } = cluster
      const lines = [
        '[global]',
        ...(await place.lines(home)),
        ...special,
        'repo1-retention-full=1',
        'compress-type=zst',
        'compress-level=1',
        `process-max=${jobs}`,
        'start-fast=y',
        `lock-path=${join(home, 'lock')}`,
        'log-level-file=off',
        'log-level-console=warn',
        '[main]',
        `pg1-path=${dataDirectory}`,
        `pg1-socket-path=${host}`,
        `pg1-port=${port}`,
        `pg1-user=${user}`,
      ]
      await scratch.file('pgbackrest/pgbackrest.conf', `${lines.join('\n')}\n`)
      const { args } = command('stanza-create')
      await execa(program, args, cluster.childOptions)
    },
    archiveCommand: `${program} --config=${configFile} --stanza=main archive-push %p`,
    backup: () => command('--type=full', 'backup'),
    incremental: () => command('--type=incr', 'backup'),
    restore,
    chainRestores: [{ name: place.name, restore }],
    storedBytes: () => place.storedBytes(home),
    cleanup: () => rm(home, { recursive: true, force: true }),
  }
}
