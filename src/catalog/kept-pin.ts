import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import { sideBySide } from '../side-by-side.ts'
import { readObject, type Storage } from '../storage/storage.ts'
import { FORMAT } from './identity.ts'
import { backupRecordKey, isBackupId, keptPrefix } from './layout.ts'

/** A person's word that a backup of either kind stays, whatever the rules say. */
export interface KeptPin {
  backup: string
  /** For good, where there is no end. */
  until?: Date | undefined
  reason: string
}

const PinSchema = z.object({
  format: z.literal(FORMAT),
  backup: z.string(),
  until: z.iso.datetime().nullable(),
  reason: z.string(),
})

/** How many are read at once. */
const AT_ONCE = 16

export function isOver({ until }: Pick<KeptPin, 'until'>, now: Date): boolean {
  return until !== undefined && until <= now
}

/**
 * The pins, by their backups; also those that are over. One that cannot be read has no end: it was meant to keep its backup, and its
 * name says which.
 * @param backup of this one only
 */
export async function readKeptPins(storage: Storage, cluster: string, backup = ''): Promise<KeptPin[]> {
  return (await storedPins(storage, cluster, backup)).map(({ pin }) => pin)
}

/**
 * Pins a backup, or pins it otherwise than before. The record is looked for once the pin is there, when no retention that begins
 * later can overlook it.
 * @returns `absent` where there is no such backup; then nothing is pinned
 */
export async function keepBackup(
  storage: Storage,
  cluster: string,
  { backup, until, reason }: KeptPin,
): Promise<'kept' | 'absent'> {
  const isThere = async () => (await storage.stat(backupRecordKey(cluster, backup))) !== undefined
  if (!(await isThere())) return 'absent'
  const before = await storedPins(storage, cluster, backup)
  // Each has a name of its own, so who removes one that is over never removes another that took its place.
  const key = `${keptPrefix(cluster)}${backup}.${randomUUID()}.json`
  const pin = { format: FORMAT, backup, until: until?.toISOString() ?? null, reason }
  await storage.put(key, Buffer.from(`${JSON.stringify(pin)}\n`))
  if (!(await isThere())) {
    await storage.remove(key)
    return 'absent'
  }
  for (const replaced of before) await storage.remove(replaced.key)
  return 'kept'
}

/** Lets a backup go. @returns the pins that it had */
export async function releaseBackup(storage: Storage, cluster: string, backup: string): Promise<KeptPin[]> {
  const pins = await storedPins(storage, cluster, backup)
  for (const { key } of pins) await storage.remove(key)
  return pins.map(({ pin }) => pin)
}

/** Removes the pins that are over. */
export async function sweepKeptPins(storage: Storage, cluster: string, now: Date): Promise<void> {
  for (const { key, pin } of await storedPins(storage, cluster, ''))
    if (isOver(pin, now)) await storage.remove(key)
}

interface StoredPin {
  key: string
  pin: KeptPin
}

async function storedPins(storage: Storage, cluster: string, backup: string): Promise<StoredPin[]> {
  const objects = storage.list(`${keptPrefix(cluster)}${backup}`)
  const pins = await sideBySide(objects, AT_ONCE, async ({ key }): Promise<StoredPin[]> => {
    const id = /([^/.]+)\.[^/.]+\.json$/.exec(key)?.[1] ?? ''
    const bytes = isBackupId(id) && (backup === '' || id === backup) && (await readObject(storage, key))
    return bytes ? [{ key, pin: pinIn(bytes, id) }] : []
  })
  return pins.flat()
}

function pinIn(bytes: Buffer, id: string): KeptPin {
  try {
    const { backup, until, reason } = PinSchema.parse(JSON.parse(bytes.toString('utf8')))
    if (backup === id) return { backup, ...(until !== null && { until: new Date(until) }), reason }
  } catch {
    // It is told as what it is.
  }
  return { backup: id, reason: 'its pin cannot be read' }
}
