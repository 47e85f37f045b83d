import { join } from 'node:path'
import { parseCodec } from '../archive/codec.ts'
import { homeOf } from '../config/defaults.ts'
import { connectReplication } from '../postgres/replication.ts'
import { dropSlot } from '../postgres/replication-slot.ts'
import { receiveWal } from '../wal/receive.ts'
import type { CommandContext, Outcome, Run } from './context.ts'

/** Runs until it is stopped, which is no failure. */
export const run: Run = async ({ options }, context) => {
  const { name, config } = context.cluster()
  const { slot, interval, directory = folderFor(name, context) } = config.wal.receive
  if (options.dropSlot) return removeSlot(slot, context)
  const codec = parseCodec(config.backup.compression)
  const result = await receiveWal(
    {
      cluster: name,
      connection: await context.connection(),
      repositories: context.repositories(),
      directory,
      slot,
      synchronous: options.synchronous === true,
      level: typeof codec === 'object' && codec.method === 'zstd' ? codec.level : 1,
      intervalMs: interval * 1000,
      env: context.env,
    },
    context,
  )
  const count = result.segments === 1 ? '1 segment was' : `${result.segments} segments were`
  return {
    text: `Stopped. ${count} stored. The slot "${slot}" keeps the server's WAL until wal-receive runs again, or is removed: pgrecall wal-receive --drop-slot`,
    json: { event: 'stopped', cluster: name, slot, ...result },
  }
}

async function removeSlot(slot: string, context: CommandContext): Promise<Outcome> {
  const client = await connectReplication(await context.connection())
  try {
    const isRemoved = await dropSlot(client, slot)
    return {
      text: isRemoved
        ? `The slot "${slot}" is removed; the server keeps no WAL for it`
        : `There is no slot "${slot}"`,
      json: { event: 'slot-removed', slot, removed: isRemoved },
    }
  } finally {
    await client.end().catch(() => {})
  }
}

/** Beside the default repository and not in it, whose folders are clusters. */
function folderFor(cluster: string, { env, home, isRoot }: CommandContext): string {
  // Root has become the cluster's owner by now.
  const own = isRoot ? (homeOf(process.getuid!()) ?? home) : home
  return join(env.XDG_DATA_HOME || join(own, '.local', 'share'), 'pgrecall-receive', cluster)
}
