import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { stringify } from 'yaml'
import { makeRepository } from '../../test/lab/lab.ts'
import { product } from '../../test/lab/product.ts'
import type { Ground } from '../ground.ts'
import { weigh } from '../weigh.ts'
import type { ChainTool, Tool } from './tool.ts'

/** Where pgrecall keeps its repository. */
export interface PgrecallPlace {
  /** The tool's name in the tables. */
  name: string
  /** Makes an empty repository. @returns how the configuration names it */
  make(home: string): Promise<object>
  /** Of the objects of its backups. */
  storedBytes(home: string): Promise<number>
}

const ON_DISK: PgrecallPlace = {
  name: 'pgrecall',
  make: async (home) => {
    const path = join(home, 'repository')
    await makeRepository(path)
    return { type: 'local', path }
  },
  storedBytes: async (home) => (await weigh(join(home, 'repository/main/backups'))).bytes,
}

export const pgrecall = pgrecallIn(ON_DISK)

/** pgrecall on this disk, encrypting. @param encryption as the configuration has it */
export function encryptedOnDisk(encryption: object): PgrecallPlace {
  return {
    ...ON_DISK,
    name: 'pgrecall, encrypted',
    make: async (home) => ({ ...(await ON_DISK.make(home)), encryption }),
  }
}

export function pgrecallIn(place: PgrecallPlace): (ground: Ground) => Promise<Tool & ChainTool> {
  return async (ground) => {
    const { launcher } = await product()
    const { cluster, jobs, scratch } = ground
    const home = join(scratch.path, 'pgrecall')
    const configFile = join(home, 'pgrecall.yaml')
    const command = (...args: string[]) => ({
      program: launcher,
      args: ['--config', configFile, '--quiet', '--no-progress', ...args],
    })
    const restore = (target: string) => command('restore', '--data-directory', target)

    return {
      name: place.name,
      reader: 'command',
      version: async () => (await execa(launcher, ['--version'])).stdout,
      prepare: async () => {
        await scratch.folder('pgrecall')
        const { dataDirectory, host, port, user } = cluster
        const configuration = {
          repositories: { store: await place.make(home) },
          clusters: {
            main: {
              dataDirectory,
              connection: { host, port, user },
              repositories: ['store'],
              backup: { method: 'files', jobs, compression: 'zstd:1' },
              restore: { jobs },
            },
          },
        }
        await scratch.file('pgrecall/pgrecall.yaml', stringify(configuration))
      },
      archiveCommand: `${launcher} --config ${configFile} wal-push "%p"`,
      backup: () => command('backup', '--type', 'full'),
      incremental: () => command('backup', '--type', 'incr'),
      restore,
      chainRestores: [{ name: place.name, restore }],
      storedBytes: () => place.storedBytes(home),
      cleanup: async () => {
        await rm(home, { recursive: true, force: true })
        // Its notes name a configuration that is gone: pgBackRest stumbles over a link to nowhere.
        await rm(join(cluster.dataDirectory, 'pg_wal/pgrecall'), { recursive: true, force: true })
      },
    }
  }
}
