import { readdirSync, readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { stringify } from 'yaml'
import { makeRepository } from '../../test/lab/lab.ts'
import { untilGone } from '../../test/lab/processes.ts'
import { product } from '../../test/lab/product.ts'
import { weigh } from '../weigh.ts'
import type { WalGround } from './ground.ts'

/** How much WAL is kept ready for a recovery at most, by tools that do so. */
const READY_MIB = 256

/** One way to archive WAL and to get it back. */
export interface WalTool {
  readonly name: string
  /** Undefined when it is not installed. */
  version(): Promise<string | undefined>
  /** Makes an empty archive. */
  prepare(): Promise<void>
  readonly archiveCommand: string
  restoreCommand(dataDirectory: string): string
  /** Files whose presence means that an earlier call has left the answer; %f is the WAL file's name. */
  readonly marks: { push: string; fetch: string }
  /** Waits for what works in the background, and removes what calls have left on the host. */
  forget(dataDirectory: string): Promise<void>
  /** Bytes of the archive. */
  storedBytes(): Promise<number>
}

/** One way to get WAL for a recovery. */
export type WalSource = Pick<WalTool, 'name' | 'restoreCommand' | 'forget'>

/** Where the two keep what is archived. */
export interface WalPlace {
  /** Behind the tools' names in the tables. */
  suffix: string
  /** Makes an empty repository for pgrecall. @returns how its configuration names it */
  pgrecall(home: string): Promise<object>
  /** Lines of pgBackRest's configuration. */
  pgbackrest(home: string): Promise<string[]>
  /** Of the archive of either. */
  storedBytes(home: string, tool: 'pgrecall' | 'pgbackrest'): Promise<number>
}

const ON_DISK: WalPlace = {
  suffix: '',
  pgrecall: async (home) => {
    const path = join(home, 'repository')
    await makeRepository(path)
    return { type: 'local', path }
  },
  pgbackrest: async (home) => [`repo1-path=${join(home, 'repository')}`],
  storedBytes: async (home, tool) =>
    (await weigh(join(home, tool === 'pgrecall' ? 'repository/main/wal' : 'repository/archive'))).bytes,
}

export async function walTools(ground: WalGround): Promise<WalTool[]> {
  return [await pgrecall(ground), pgbackrest(ground, 'async'), pgbackrest(ground, 'sync')]
}

/** As it comes: with its own choice of codec and level, gzip at level 6. */
export function unconfigured(ground: WalGround): WalTool {
  return pgbackrest(ground, 'async gz:6')
}

/** `cp` from a folder of plain segments: the least that a recovery can do. */
export async function plainCopy(ground: WalGround): Promise<WalSource> {
  const folder = await ground.plainFolder()
  return { name: 'cp', restoreCommand: () => `cp ${folder}/%f "%p"`, forget: async () => {} }
}

export async function pgrecall(
  { cluster, jobs, scratch }: WalGround,
  place: WalPlace = ON_DISK,
): Promise<WalTool> {
  const { launcher } = await product()
  const folder = `pgrecall${place.suffix.replace(/\W+/g, '-')}`
  const home = join(scratch.path, folder)
  const configFile = join(home, 'pgrecall.yaml')
  const command = `${launcher} --config ${configFile}`

  return {
    name: `pgrecall${place.suffix}`,
    version: async () => (await execa(launcher, ['--version'])).stdout,
    prepare: async () => {
      await rm(home, { recursive: true, force: true })
      await scratch.folder(folder)
      const main = {
        dataDirectory: cluster.dataDirectory,
        repositories: ['store'],
        backup: { compression: 'zstd:1' },
        wal: { jobs, prefetch: `${READY_MIB}MB` },
      }
      const configuration = {
        repositories: { store: await place.pgrecall(home) },
        clusters: { main },
      }
      await scratch.file(`${folder}/pgrecall.yaml`, stringify(configuration))
    },
    archiveCommand: `${command} wal-push "%p"`,
    restoreCommand: () => `${command} wal-fetch "%f" "%p"`,
    marks: { push: 'pg_wal/pgrecall/pushed/%f', fetch: 'pg_wal/pgrecall/ready/%f' },
    forget: async (dataDirectory) => {
      await untilIdle(configFile)
      await rm(join(dataDirectory, 'pg_wal/pgrecall'), { recursive: true, force: true })
    },
    storedBytes: () => place.storedBytes(home, 'pgrecall'),
  }
}

export function pgbackrest(
  { cluster, jobs, scratch }: WalGround,
  mode: 'async' | 'sync' | 'async gz:6',
  place: WalPlace = ON_DISK,
): WalTool {
  const isAsync = mode !== 'sync'
  const codec = mode === 'async gz:6' ? ['compress-type=gz'] : ['compress-type=zst', 'compress-level=1']
  const name = `pgbackrest${mode === 'sync' ? '' : ` ${mode}`}${place.suffix}`
  const folder = `pgbackrest-${mode.replace(/\W/g, '-')}`
  const home = join(scratch.path, folder)
  const configFile = join(home, 'pgbackrest.conf')
  const spool = join(home, 'spool')
  const command = (dataDirectory: string) =>
    `pgbackrest --config=${configFile} --stanza=main --pg1-path=${dataDirectory}`

  return {
    name,
    version: async () => {
      const answer = await execa('pgbackrest', ['version'], { reject: false })
      return /\d+\.\d+\S*/.exec(answer.stdout ?? '')?.[0]
    },
    prepare: async () => {
      await rm(home, { recursive: true, force: true })
      await scratch.folder(folder)
      const lines = [
        '[global]',
        ...(await place.pgbackrest(home)),
        `lock-path=${join(home, 'lock')}`,
        `spool-path=${spool}`,
        ...codec,
        'log-level-file=off',
        'log-level-console=warn',
        `process-max=${jobs}`,
        ...(isAsync ? ['archive-async=y', `archive-get-queue-max=${READY_MIB}MiB`] : []),
      ]
      await scratch.file(`${folder}/pgbackrest.conf`, `${lines.join('\n')}\n`)
      const [program, ...args] = command(cluster.dataDirectory).split(' ')
      await execa(program!, [...args, '--no-online', 'stanza-create'], cluster.childOptions)
    },
    archiveCommand: `${command(cluster.dataDirectory)} archive-push "%p"`,
    restoreCommand: (dataDirectory) => `${command(dataDirectory)} archive-get "%f" "%p"`,
    marks: {
      push: join(spool, 'archive/main/out/%f.ok'),
      fetch: join(spool, 'archive/main/in/%f'),
    },
    forget: async () => {
      await untilIdle(configFile)
      await rm(spool, { recursive: true, force: true })
    },
    storedBytes: () => place.storedBytes(home, 'pgbackrest'),
  }
}

/** Waits for the end of all processes that have this file on their command line, and ends those that stay. */
async function untilIdle(configFile: string): Promise<void> {
  const pids = readdirSync('/proc').filter(
    (name) => /^\d+$/.test(name) && commandLine(name).includes(configFile),
  )
  await untilGone(pids.map(Number))
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1')
  } catch {
    return ''
  }
}
