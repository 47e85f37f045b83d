import type { Repository } from '../catalog/repository.ts'
import { quoteForRestoreCommand } from '../postgres/recovery-settings.ts'
import type { CommandContext } from './context.ts'

/** How the restored server fetches its WAL: this very program, configuration and repository. */
export function restoreCommand(
  cluster: string,
  repository: Repository,
  context: Pick<CommandContext, 'config' | 'launcher'>,
): string {
  const { file } = context.config()
  const words = [
    context.launcher,
    ...(file === undefined ? [] : ['--config', file]),
    '--cluster',
    cluster,
    '--repository',
    repository.name,
    'wal-fetch',
  ]
  return `${words.map(quoteForRestoreCommand).join(' ')} "%f" "%p"`
}
