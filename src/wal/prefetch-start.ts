import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { appointPrefetcher, endPrefetcher, isAtWork, readPrefetcher, tellPosition } from './prefetch-owner.ts'
import { clearReady } from './ready-segments.ts'
import { type Circumstances, makeFolder, READY } from './spool.ts'

/** How a prefetcher is called, all but where. */
export interface PrefetchCall {
  program: string
  args: readonly string[]
  env: Record<string, string | undefined>
}

/**
 * Makes sure that what follows a segment is made ready: tells the prefetcher that is at work, or starts one in place of
 * whatever is there.
 * @param delivered the segment that this call has delivered
 */
export async function keepPrefetching(
  circumstances: Circumstances,
  delivered: string,
  call: PrefetchCall,
): Promise<void> {
  const { root } = circumstances
  const prefetcher = readPrefetcher(root)
  if (prefetcher && isAtWork(prefetcher, circumstances)) return tellPosition(root, delivered)
  await endPrefetching(root)
  makeFolder(join(root, READY))
  const pid = startDetached(root, call)
  if (pid !== undefined) await appointPrefetcher(circumstances, pid)
}

/** Ends the prefetcher, if there is one, and removes what is ready. */
export async function endPrefetching(root: string): Promise<void> {
  const prefetcher = readPrefetcher(root)
  if (prefetcher) await endPrefetcher(prefetcher, root)
  await clearReady(root)
}

/**
 * In a session of its own and with nothing of ours but the folder: PostgreSQL must neither wait for it nor end it.
 * @returns its process, which the launcher's Node goes on with
 */
function startDetached(root: string, { program, args, env }: PrefetchCall): number | undefined {
  const child = spawn(program, args, { cwd: root, env, detached: true, stdio: 'ignore' })
  child.on('error', () => {})
  child.unref()
  return child.pid
}
