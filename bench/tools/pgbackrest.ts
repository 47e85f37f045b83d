import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import type { Ground } from '../ground.ts'
import { weigh } from '../weigh.ts'
import type { Tool, ToolOf } from './tool.ts'

/** Bundles of small files came with this version; they are to its advantage. */
const FIRST_WITH_BUNDLES = 2.39

/** Where pgBackRest keeps its repository. */
export interface PgbackrestPlace {
  name: string
  /** Lines of its configuration. */
  lines(home: string): Promise<string[]>
  /** Of the one backup. */
  storedBytes(home: string): Promise<number>
}

const ON_DISK: PgbackrestPlace = {
  name: 'pgbackrest',
  lines: async (home) => [`repo1-path=${join(home, 'repository')}`],
  storedBytes: async (home) => (await weigh(join(home, 'repository/backup'))).bytes,
}

export const pgbackrest: ToolOf = pgbackrestIn(ON_DISK)

export function pgbackrestIn(place: PgbackrestPlace): ToolOf {
  return (ground) => toolIn(place, ground)
}

async function toolIn(place: PgbackrestPlace, ground: Ground): Promise<Tool> {
  const { cluster, jobs, scratch } = ground
  const home = join(scratch.path, 'pgbackrest')
  const configFile = join(home, 'pgbackrest.conf')
  const answer = await execa('pgbackrest', ['version'], { reject: false })
  const version = /\d+\.\d+\S*/.exec(answer.stdout ?? '')?.[0]
  const bundles = Number.parseFloat(version ?? '0') >= FIRST_WITH_BUNDLES
  const command = (...args: string[]) => ({
    program: 'pgbackrest',
    args: [`--config=${configFile}`, '--stanza=main', ...args],
  })

  return {
    name: place.name,
    version: async () => version && `${version}${bundles ? ', repo1-bundle=y' : ''}`,
    prepare: async () => {
      await scratch.folder('pgbackrest')
      const { dataDirectory, host, port, user } = cluster
      const lines = [
        '[global]',
        ...(await place.lines(home)),
        ...(bundles ? ['repo1-bundle=y'] : []),
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
      const { program, args } = command('stanza-create')
      await execa(program, args, cluster.childOptions)
      await ground.archiveWith(`pgbackrest --config=${configFile} --stanza=main archive-push %p`)
    },
    backup: () => command('--type=full', 'backup'),
    restore: (target) => command(`--pg1-path=${target}`, 'restore'),
    storedBytes: () => place.storedBytes(home),
    cleanup: async () => {
      await ground.archiveWith('true')
      await rm(home, { recursive: true, force: true })
    },
  }
}
