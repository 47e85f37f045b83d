import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { stringify } from 'yaml'
import { makeRepository } from '../../test/lab/lab.ts'
import { product } from '../../test/lab/product.ts'
import type { Ground } from '../ground.ts'
import { weigh } from '../weigh.ts'
import type { Tool } from './tool.ts'

export async function pgrecall(ground: Ground): Promise<Tool> {
  const { launcher } = await product()
  const { cluster, jobs, scratch } = ground
  const home = join(scratch.path, 'pgrecall')
  const repository = join(home, 'repository')
  const configFile = join(home, 'pgrecall.yaml')
  const command = (...args: string[]) => ({
    program: launcher,
    args: ['--config', configFile, '--quiet', '--no-progress', ...args],
  })

  return {
    name: 'pgrecall',
    version: async () => (await execa(launcher, ['--version'])).stdout,
    prepare: async () => {
      await scratch.folder('pgrecall')
      await makeRepository(repository)
      const { dataDirectory, host, port, user } = cluster
      const configuration = {
        repositories: { local: { type: 'local', path: repository } },
        clusters: {
          main: {
            dataDirectory,
            connection: { host, port, user },
            repositories: ['local'],
            backup: { method: 'files', jobs, compression: 'zstd:1' },
            restore: { jobs },
          },
        },
      }
      await scratch.file('pgrecall/pgrecall.yaml', stringify(configuration))
      await ground.archiveWith(`${launcher} --config ${configFile} wal-push "%p"`)
    },
    backup: () => command('backup'),
    restore: (target) => command('restore', '--data-directory', target),
    storedBytes: async () => (await weigh(join(repository, 'main/backups'))).bytes,
    cleanup: async () => {
      await ground.archiveWith('true')
      await rm(home, { recursive: true, force: true })
    },
  }
}
