import { existsSync } from 'node:fs'
import { readdir, readFile, rename, rm, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { systemCode } from '../errors.ts'
import { isAtWork, readPrefetcher } from './prefetch-owner.ts'
import { recoveringServer } from './prefetch-recovery.ts'
import { type Circumstances, noteText, READY } from './spool.ts'

/** How long a call waits for a segment that is just being made ready. */
const COMING_MS = 2000

/** A segment that is ready: the file, and the note that says under which circumstances it is to be believed. */
export const readyFile = (root: string, name: string) => join(root, READY, name)
export const readyNote = (name: string) => join(READY, `${name}.note`)
/** The file while it is written, or waited for. Each prefetcher has names of its own, so none gives another's its name. */
export const comingFile = (root: string, name: string, pid: number) =>
  join(root, READY, `${name}.${pid}.part`)

/**
 * Hands a segment over that is ready, as the launcher does, and waits for one that is about to be.
 * @returns false when it is not ready, or not to be believed
 */
export async function takeReady(
  circumstances: Circumstances,
  name: string,
  destination: string,
): Promise<boolean> {
  const deadline = performance.now() + COMING_MS
  for (;;) {
    const isComing = performance.now() < deadline && isBeingMadeReady(circumstances, name)
    if (await isBelieved(circumstances, name)) {
      await rename(readyFile(circumstances.root, name), destination)
      return true
    }
    if (!isComing) return false
    await wait(5)
  }
}

async function isBelieved(circumstances: Circumstances, name: string): Promise<boolean> {
  const { root } = circumstances
  if (!existsSync(readyFile(root, name))) return false
  const note = await readFile(join(root, readyNote(name)), 'utf8').catch(() => undefined)
  return note === noteText(circumstances)
}

function isBeingMadeReady(circumstances: Circumstances, name: string): boolean {
  const prefetcher = readPrefetcher(circumstances.root)
  return (
    prefetcher !== undefined &&
    existsSync(comingFile(circumstances.root, name, prefetcher.pid)) &&
    isAtWork(prefetcher, circumstances)
  )
}

/** Removes a segment that is ready. The note goes last: no file may come to lie beside the note of a later one. */
export async function dropReady(root: string, name: string): Promise<void> {
  await rm(readyFile(root, name), { force: true })
  await rm(join(root, readyNote(name)), { force: true })
}

/** Removes whatever is ready, and the folder. A prefetcher at work there notices that it is no longer wanted. */
export async function clearReady(root: string): Promise<void> {
  const folder = join(root, READY)
  const names = await readdir(folder).catch(() => [])
  const isNote = (name: string) => name.endsWith('.note')
  for (const name of [...names.filter((name) => !isNote(name)), ...names.filter(isNote)]) {
    await rm(join(folder, name), { force: true })
  }
  await rmdir(folder).catch((error) => {
    if (systemCode(error) !== 'ENOENT' && systemCode(error) !== 'ENOTEMPTY') throw error
  })
}

/** Removes what a prefetcher that was killed has left, once its server does not recover any more. */
export async function sweepReady(root: string): Promise<void> {
  if (existsSync(join(root, READY)) && recoveringServer(root) === undefined) await clearReady(root)
}
