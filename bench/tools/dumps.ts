import { rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import type { Ground } from '../ground.ts'
import { pgrecall } from './pgrecall.ts'
import type { Tool, ToolOf } from './tool.ts'

/** A logical backup of the one database that has the data. @param more options beside */
export function pgrecallLogical(name: string, ...more: string[]): ToolOf {
  return async (ground) => {
    const { restore: _physical, archiveCommand: _none, ...tool } = await pgrecall(ground)
    const own = ['--method', 'logical', '--database', 'postgres', '--no-globals', ...more]
    const backup = () => {
      const command = tool.backup()
      return {
        ...command,
        args: [...command.args.filter((arg) => arg !== '--type' && arg !== 'full'), ...own],
      }
    }
    return { ...tool, name, backup }
  }
}

/**
 * What a person types: a dump into a file, compressed on the way.
 * @param pipeline what makes `$1` of the database, with pg_dump as `$2`
 * @param leastMajor the first version that knows the options
 */
export function byHand(name: string, pipeline: string, leastMajor = 0): ToolOf {
  return async ({ cluster, scratch }: Ground): Promise<Tool> => {
    const home = join(scratch.path, 'by-hand')
    const file = join(home, 'postgres.dump')
    const program = cluster.programs.path('pg_dump')
    return {
      name,
      version: async () => {
        if (cluster.programs.major < leastMajor) return undefined
        const { stdout } = await execa(program, ['--version'])
        return stdout
      },
      prepare: async () => void (await scratch.folder('by-hand')),
      backup: () => ({
        program: 'sh',
        args: ['-c', `${pipeline} && sync "$1"`, 'sh', file, program],
        env: cluster.connectionEnv,
      }),
      storedBytes: async () => (await stat(file)).size,
      cleanup: () => rm(home, { recursive: true, force: true }),
    }
  }
}
