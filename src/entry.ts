import { existsSync, lstatSync, mkdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { unfitNode } from './node-version.ts'
import { useCompileCache } from './threads/compile-cache.ts'

/**
 * The first file that Node reads. It turns the compile cache on, then loads the rest, which is faster with it.
 * The cache lies in a folder that is ours alone: what is in it is executed.
 */
function startFast(): void {
  try {
    const folder = join(homedir(), '.cache', 'pgrecall')
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    const facts = lstatSync(folder)
    const isOurs = facts.isDirectory() && facts.uid === process.getuid?.() && (facts.mode & 0o022) === 0
    if (isOurs) useCompileCache(folder)
  } catch {
    // Without a home, or with a read-only one, starting takes a little longer.
  }
}

/** Whatever breaks outside of main's own care must not look like an answer: Node would exit with 1. */
function exitOn(error: unknown): never {
  console.error(error)
  const isRecovery = process.argv.includes('wal-fetch') && !existsSync('standby.signal')
  process.exit(isRecovery ? 200 : process.argv.includes('wal-fetch') ? 1 : 70)
}

process.on('uncaughtException', exitOn)
process.on('unhandledRejection', exitOn)
const unfit = unfitNode()
if (unfit) exitOn(`pgrecall: ${unfit}`)
startFast()
const { main } = (await import('./main.ts').catch(exitOn)) as typeof import('./main.ts')
await main()
