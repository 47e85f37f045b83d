import { reasonOf } from '../errors.ts'
import { readObject, type Storage } from '../storage/storage.ts'
import { discard, newHolder, parseHolder, RENEW_MS, stateOf } from './holder.ts'
import { pinsPrefix } from './layout.ts'

/** A running restore's claim on a backup: retention keeps what is being read, and the WAL from there on. */
export interface Pin {
  backup: string
  purpose: string
}

/**
 * Claims a backup for as long as the result is held.
 * @throws PgrecallError `repository` when the repository cannot be written
 */
export async function pinBackup(
  storage: Storage,
  cluster: string,
  backup: string,
  purpose: string,
  now: () => Date,
): Promise<AsyncDisposable> {
  const holder = await newHolder(purpose, now())
  const key = `${pinsPrefix(cluster)}${holder.id}.json`
  const write = () =>
    storage.put(
      key,
      Buffer.from(`${JSON.stringify({ ...holder, backup, renewedAt: now().toISOString() })}\n`),
    )
  await write()
  let renewal: Promise<unknown> = Promise.resolve()
  const timer = setInterval(() => {
    renewal = renewal.then(write).catch(() => {})
  }, RENEW_MS)
  timer.unref()
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(timer)
      await renewal
      // One that stays behind is swept; it must not hide how the work itself ended.
      await discard(storage, key).catch(() => {})
    },
  }
}

/**
 * The same where a repository may only be read: who may not write it goes on without a pin.
 * @param onUnpinned is told why
 */
export async function pinIfAllowed(
  storage: Storage,
  cluster: string,
  backup: string,
  purpose: string,
  now: () => Date,
  onUnpinned: (text: string) => void,
): Promise<AsyncDisposable> {
  try {
    return await pinBackup(storage, cluster, backup, purpose, now)
  } catch (error) {
    onUnpinned(
      `backup ${backup} could not be pinned, so a retention that runs now may remove it: ${reasonOf(error)}`,
    )
    return { async [Symbol.asyncDispose]() {} }
  }
}

/** The backups that somebody is reading now. */
export async function livingPins(storage: Storage, cluster: string, now: Date): Promise<Pin[]> {
  return (await readPins(storage, cluster, now)).living
}

/** Removes the pins of processes that are gone. */
export async function sweepPins(storage: Storage, cluster: string, now: Date): Promise<void> {
  for (const key of (await readPins(storage, cluster, now)).dead) await storage.remove(key)
}

/**
 * A silent pin of another host still counts for a day, since keeping too long costs space and removing too early costs
 * a restore.
 */
async function readPins(
  storage: Storage,
  cluster: string,
  now: Date,
): Promise<{ living: Pin[]; dead: string[] }> {
  const living: Pin[] = []
  const dead: string[] = []
  for await (const { key, bytes, modified } of storage.list(pinsPrefix(cluster))) {
    if (bytes === 0) {
      dead.push(key)
      continue
    }
    const holder = parseHolder(await readObject(storage, key))
    const backup = holder && (holder as unknown as { backup?: unknown }).backup
    const state = holder ? await stateOf(holder, now) : 'suspect'
    const isOld = now.getTime() - modified.getTime() > 24 * 60 * 60 * 1000
    if (state === 'dead' || (state === 'suspect' && isOld)) dead.push(key)
    else if (holder && typeof backup === 'string') {
      living.push({ backup, purpose: `${holder.purpose} on ${holder.host}` })
    }
  }
  return { living, dead }
}
