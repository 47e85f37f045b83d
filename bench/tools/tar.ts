import { rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import type { Ground } from '../ground.ts'
import type { Tool } from './tool.ts'

/** What a person would do by hand: a copy of the stopped server. */
export async function tar({ cluster, jobs, scratch }: Ground): Promise<Tool> {
  const home = join(scratch.path, 'tar')
  const archive = join(home, 'data.tar.zst')
  const shell = (script: string, ...args: string[]) => ({
    program: 'sh',
    args: ['-c', script, 'sh', archive, ...args],
  })

  return {
    name: 'tar, zstd',
    version: async () => {
      const answer = await execa('zstd', ['--version'], { reject: false })
      const version = /v(\d+\.\d+\S*),/.exec(answer.stdout ?? '')?.[1]
      return version && `zstd ${version} -1 -T${jobs}, server stopped`
    },
    prepare: async () => {
      await scratch.folder('tar')
      await cluster.stop()
    },
    backup: () =>
      shell(
        `tar --create --use-compress-program="zstd -1 -T${jobs}" --file="$1" --directory="$2" . && sync "$1"`,
        cluster.dataDirectory,
      ),
    restore: (target) =>
      shell(
        'tar --extract --use-compress-program="zstd -d" --file="$1" --directory="$2" && sync -f "$2"',
        target,
      ),
    storedBytes: async () => (await stat(archive)).size,
    cleanup: async () => {
      await cluster.start()
      await rm(home, { recursive: true, force: true })
    },
  }
}
