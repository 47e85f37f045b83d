import { resolve } from 'node:path'
import { parseCodec } from '../archive/codec.ts'
import { pushWalFile } from '../wal/push.ts'
import type { Run } from './context.ts'

/** `archive_command`: silent when all is well, since PostgreSQL calls it for every segment. */
export const run: Run = async ({ args }, context) => {
  const { name, config } = context.cluster()
  const codec = parseCodec(config.backup.compression)
  const result = await pushWalFile({
    path: resolve(context.cwd, args[0]!),
    cluster: name,
    repositories: context.repositories(),
    level: typeof codec === 'object' && codec.method === 'zstd' ? codec.level : 1,
    signal: context.signal,
  })
  context.events.emit('detail', { text: `Archived ${result.name}`, facts: { ...result } })
  return { text: '', json: result }
}
