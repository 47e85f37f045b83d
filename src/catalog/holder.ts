import { randomUUID } from 'node:crypto'
import { readFile, readlink } from 'node:fs/promises'
import { hostname } from 'node:os'
import { systemCode } from '../errors.ts'
import type { Storage } from '../storage/storage.ts'

/** Who holds a lock or a pin: enough to tell, on the same host at once and elsewhere with time, whether it lives. */
export interface Holder {
  id: string
  purpose: string
  host: string
  pid: number
  /**
   * Which table of processes `pid` is of: containers, and hosts that were cloned, can share a name without seeing each
   * other's processes. The kernel's boot id and the number of the namespace.
   */
  pidNamespace: string
  /** When the process began, in the kernel's ticks: a process id alone may be given to another process. */
  processStart: string
  since: string
  renewedAt: string
}

/** How often a holder renews what it holds. */
export const RENEW_MS = 30_000
/** A holder on another host that has not renewed for this long may be dead, or its clock may be wrong. */
export const SUSPECT_MS = 5 * 60_000

export async function newHolder(purpose: string, now: Date): Promise<Holder> {
  const time = now.toISOString()
  const start = (await processStart(process.pid)) ?? ''
  return {
    id: randomUUID(),
    purpose,
    host: hostname(),
    pid: process.pid,
    pidNamespace: await pidNamespace(),
    processStart: start,
    since: time,
    renewedAt: time,
  }
}

/** `dead` and `alive` are certain; `suspect` is a silent holder whose process cannot be seen from here. */
export async function stateOf(holder: Holder, now: Date): Promise<'alive' | 'suspect' | 'dead'> {
  if (holder.host === hostname() && holder.pidNamespace === (await pidNamespace())) {
    const start = await processStart(holder.pid)
    return start === undefined ||
      (holder.processStart !== '' && start !== '' && start !== holder.processStart)
      ? 'dead'
      : 'alive'
  }
  // A time that is none makes it suspect too: alive for ever would be worse.
  return Math.abs(now.getTime() - Date.parse(holder.renewedAt)) <= SUSPECT_MS ? 'alive' : 'suspect'
}

export function describeHolder(holder: Holder): string {
  return `${holder.purpose} (process ${holder.pid} on ${holder.host}, since ${holder.since})`
}

/** Reads a holder's record; undefined when the bytes are none, as after a crash of the store. */
export function parseHolder(bytes: Buffer | undefined): Holder | undefined {
  try {
    const value = JSON.parse(bytes?.toString('utf8') ?? '') as Holder
    return typeof value.id === 'string' && typeof value.host === 'string' && Number.isInteger(value.pid)
      ? value
      : undefined
  } catch {
    return undefined
  }
}

/**
 * Removes the record of a holder. A host that may write and never delete empties it instead, which says the same; whoever may
 * delete removes it later.
 * @throws what the removal failed with, when neither works
 */
export async function discard(storage: Storage, key: string): Promise<void> {
  try {
    await storage.remove(key)
  } catch (error) {
    await storage.put(key, new Uint8Array(0)).catch(() => {
      throw error
    })
  }
}

/** Empty where the system has no such thing. */
async function pidNamespace(): Promise<string> {
  const [boot, table] = await Promise.all([
    readFile('/proc/sys/kernel/random/boot_id', 'latin1').catch(() => ''),
    readlink('/proc/self/ns/pid').catch(() => ''),
  ])
  return `${boot.trim()} ${table}`
}

/** Undefined when there is no such process; empty where the system does not tell when it began. */
async function processStart(pid: number): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'latin1')
    // The command's name, in parentheses, may hold spaces; the start time is the 20th field after it.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    // A zombie is dead: where nobody reaps orphans, as in a container without an init, it stays for ever.
    return /^[ZX]$/.test(fields[0] ?? '') ? undefined : (fields[19] ?? '')
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') return ''
  }
  try {
    process.kill(pid, 0)
    return ''
  } catch (error) {
    return systemCode(error) === 'ESRCH' ? undefined : ''
  }
}
