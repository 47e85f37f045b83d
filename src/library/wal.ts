import { resolve } from 'node:path'
import type { CommandContext } from '../commands/context.ts'
import { targetOf } from '../commands/wal-push.ts'
import { reasonOf } from '../errors.ts'
import { Shortfalls } from '../wal/every-repository.ts'
import { fetchWalFile, RECOVERY_RETRIES_MS } from '../wal/fetch.ts'
import { type PushResult, pushWalFile } from '../wal/push.ts'

/** `pushWal` of the library. */
export async function push(context: CommandContext, path: string): Promise<PushResult> {
  const result = await pushWalFile({ ...targetOf(context), path: resolve(context.cwd, path) })
  const shortfalls = new Shortfalls()
  shortfalls.add(result.name, result.repositories)
  for (const text of shortfalls.warnings) context.events.emit('warning', { text })
  return result
}

/** `fetchWal` of the library. */
export function fetch(
  context: CommandContext,
  name: string,
  destination: string,
): Promise<string | undefined> {
  return fetchWalFile({
    name,
    destination: resolve(context.cwd, destination),
    cluster: context.cluster().name,
    repositories: context.repositories(),
    isHoleFilled: false,
    isExpected: false,
    retryDelaysMs: RECOVERY_RETRIES_MS,
    signal: context.signal,
    onRetry: (error, delayMs) =>
      context.events.emit('warning', { text: `${reasonOf(error)}; trying again in ${delayMs} ms` }),
  })
}
