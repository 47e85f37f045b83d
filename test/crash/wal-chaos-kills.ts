import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type { Cluster } from '../lab/cluster.ts'
import { poll } from '../lab/poll.ts'
import { descendantsOf } from '../lab/processes.ts'
import type { Chance } from './chance.ts'

/** Much longer than a push takes, so that a kill that meets one comes at any moment of it. */
const LONGEST_WAIT_MS = 1000
const PATIENCE_MS = 90_000

/** Kills a running `wal-push`. */
export async function killPush(cluster: Cluster, chance: Chance): Promise<void> {
  await poll(() => killIfThereIs(cluster, chance), { what: 'a push to kill', timeoutMs: PATIENCE_MS })
}

/** Its push goes on alone, and meets those of the next archiver. */
export async function killArchiver(cluster: Cluster): Promise<void> {
  kill(await archiverOf(cluster))
}

/** Kills all of its processes, and starts it again. What was running below its archiver ends by itself. */
export async function killServer(cluster: Cluster): Promise<void> {
  const servers = descendantsOf(postmasterOf(cluster)).filter((pid) =>
    commandLine(pid).startsWith('postgres'),
  )
  for (const pid of servers) kill(pid)
  await cluster.kill9()
  await cluster.start()
}

/** @returns whether there was one */
async function killIfThereIs(cluster: Cluster, chance: Chance): Promise<boolean> {
  await cluster.sql(`SELECT pg_logical_emit_message(false, 'chaos', ''), pg_switch_wal()`).catch(() => {})
  await pause(chance.below(LONGEST_WAIT_MS))
  const pushes = descendantsOf(postmasterOf(cluster)).filter((pid) => / wal-push /.test(commandLine(pid)))
  for (const pid of pushes) kill(pid)
  return pushes.length > 0
}

function archiverOf(cluster: Cluster): Promise<number> {
  const find = async () => {
    // The postmaster looks for a missing archiver when something wakes it.
    await cluster.sql('SELECT').catch(() => {})
    return descendantsOf(postmasterOf(cluster)).find((pid) =>
      commandLine(pid).startsWith('postgres: archiver'),
    )
  }
  return poll(find, { what: 'an archiver', timeoutMs: PATIENCE_MS })
}

function postmasterOf(cluster: Cluster): number {
  return Number.parseInt(readFileSync(join(cluster.dataDirectory, 'postmaster.pid'), 'utf8'), 10)
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It went by itself in this moment.
  }
}

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ')
  } catch {
    return ''
  }
}
