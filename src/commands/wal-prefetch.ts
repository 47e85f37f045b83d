import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { reasonOf } from '../errors.ts'
import { readControlFile } from '../postgres/pg-control.ts'
import { readFromAny } from '../wal/fetch.ts'
import { type PrefetchReport, prefetchWal, whileAppointed } from '../wal/prefetch.ts'
import { recoveryCircumstances } from '../wal/prefetch-recovery.ts'
import type { CommandContext, Run } from './context.ts'

/**
 * Started by `wal-fetch`, in the data directory. Nobody reads what it says; and where the server is the first process of
 * a container, it takes an unknown child's failure for a crash of its own. So it never fails.
 */
export const run: Run = async ({ args }, context) => {
  const report = await whileAppointed(context.cwd, () => prefetchAfter(args[0]!, context)).catch((error) => ({
    segments: 0,
    ended: `it failed: ${reasonOf(error)}`,
  }))
  const json = report ?? { segments: 0, ended: 'it was not appointed' }
  context.events.emit('detail', { text: 'Prefetching is over', facts: { ...json } })
  return { text: '', json }
}

async function prefetchAfter(name: string, context: CommandContext): Promise<PrefetchReport> {
  const { cwd: root, signal } = context
  const control = readControlFile(await readFile(join(root, 'global', 'pg_control')))
  const call = context.env.PGRECALL_FETCH_CALL
  const circumstances = await recoveryCircumstances({ root, call, config: context.config() })
  if (!control || !circumstances) return { segments: 0, ended: 'no recovery goes on here' }
  const { name: cluster, config } = context.cluster()
  const repositories = context.repositories()
  return prefetchWal({
    circumstances,
    after: name,
    segmentBytes: control.walSegmentBytes,
    limitBytes: config.wal.prefetch,
    read: async (name, signal) => {
      const request = { name, cluster, repositories, isHoleFilled: false, signal }
      return (await readFromAny(request, { wholeOnly: true }))?.plain
    },
    signal,
  })
}
