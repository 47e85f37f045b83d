import { randomBytes } from 'node:crypto'
import { readFileSync, readlinkSync, type Stats } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { systemCode } from '../errors.ts'
import { isAbsent, statOrAbsent } from './durable-files.ts'

/** Writes that are under way lie in this folder of a local repository, under names that say who makes them. */
export const INCOMING = '.incoming'
/** What cannot be asked for its process is debris when nothing was written to it for this long. */
const SILENT_MS = 24 * 60 * 60 * 1000

/** A name that nobody else uses: `<process>@<host and its process table>@<random>`. */
export function incomingName(): string {
  return `${process.pid}@${processTable()}@${randomBytes(9).toString('hex')}`
}

/** Removes the files of processes that are gone. @param root the repository's folder */
export async function sweepIncoming(root: string): Promise<{ objects: number; bytes: number }> {
  const folder = join(root, INCOMING)
  const swept = { objects: 0, bytes: 0 }
  for (const name of await namesIn(folder)) {
    const facts = await statOrAbsent(join(folder, name))
    if (!facts || !isAbandoned(name, facts)) continue
    await rm(join(folder, name), { force: true })
    swept.objects++
    swept.bytes += facts.size
  }
  return swept
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if (isAbsent(error)) return []
    throw error
  }
}

function isAbandoned(name: string, facts: Stats): boolean {
  if (Date.now() - facts.mtimeMs > SILENT_MS) return true
  const [pid, table] = name.split('@')
  if (table !== processTable() || Number(pid) === process.pid) return false
  try {
    process.kill(Number(pid), 0)
    return isZombie(Number(pid))
  } catch (error) {
    return systemCode(error) === 'ESRCH'
  }
}

/** Killed, but not yet reaped by its parent; where nobody reaps orphans that is for ever. */
function isZombie(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    return /^[ZX] /.test(stat.slice(stat.lastIndexOf(')') + 2))
  } catch {
    return false
  }
}

/** Containers, and cloned hosts, can share a name without seeing each other's processes; kernel and namespace tell. */
function processTable(): string {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()
    return `${hostname()}+${boot}+${readlinkSync('/proc/self/ns/pid').replace(/\D/g, '')}`
  } catch {
    return hostname()
  }
}
