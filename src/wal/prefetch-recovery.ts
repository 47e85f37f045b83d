import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { livingProcess } from './prefetch-process.ts'
import { runningServer } from './running-server.ts'
import { type CallFacts, type Circumstances, circumstancesOf } from './spool.ts'

/** Whose presence makes a server recover from the archive; it removes or renames them when it opens. */
const SIGNAL_FILES = ['recovery.signal', 'standby.signal', 'recovery.conf']

/**
 * What must still hold when a segment that was made ready is believed: the circumstances of every note, and that the same
 * start of the same server still recovers. So what a recovery leaves is nothing to a later one, nor to a copy of the
 * directory, wherever `pg_wal` lies.
 * @returns undefined where no server recovers, or where there can be no notes
 */
export async function recoveryCircumstances(facts: CallFacts): Promise<Circumstances | undefined> {
  const server = recoveringServer(facts.root)
  const circumstances = server === undefined ? undefined : circumstancesOf(facts)
  return circumstances && { ...circumstances, lines: [...circumstances.lines, server!] }
}

/** Whether the server still recovers that the circumstances are about. */
export function stillRecovers({ root, lines }: Circumstances): boolean {
  const server = recoveringServer(root)
  return server !== undefined && lines.includes(server)
}

/** The line of a note that names the server which recovers this data directory; undefined where none does. */
export function recoveringServer(root: string): string | undefined {
  if (!SIGNAL_FILES.some((name) => existsSync(join(root, name)))) return undefined
  const server = runningServer(root)
  const isLiving = server !== undefined && livingProcess(Number(server.split(' ')[1])) !== undefined
  return isLiving ? server : undefined
}
