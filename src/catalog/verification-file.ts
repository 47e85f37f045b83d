import { z } from 'zod'
import { readObject, type Storage } from '../storage/storage.ts'
import { FORMAT } from './identity.ts'
import { isBackupId, verificationsKey } from './layout.ts'

const count = z.number().int().nonnegative()
const moment = z.iso.datetime()
const segment = z.string().regex(/^[0-9A-F]{24}$/)

const RestoreSchema = z.object({
  backup: z.string().refine(isBackupId, 'not a backup id'),
  finishedAt: moment,
  outcome: z.enum(['proven', 'unproven', 'failed']),
})

const DamagedSchema = z.object({
  key: z.string(),
  reason: z.string(),
  foundAt: moment,
  isContent: z.literal(true).exactOptional(),
})

const RunSchema = z.object({ first: segment, last: segment, at: moment })

const StoredSchema = z.object({
  format: z.literal(FORMAT),
  cluster: z.string(),
  updatedAt: moment,
  bytes: count,
  neverBytes: count,
  oldestAt: moment.exactOptional(),
  backups: z.record(
    z.string(),
    z.object({ finishedAt: moment, objects: z.array(z.tuple([moment.nullable(), count])) }),
  ),
  wal: z.array(RunSchema),
  walSizes: z.array(RunSchema).exactOptional(),
  damaged: z.array(DamagedSchema),
  unfinished: z.object({ since: moment, decode: z.boolean() }).exactOptional(),
  lastRestore: RestoreSchema.exactOptional(),
  lastProvenRestore: RestoreSchema.exactOptional(),
})

/** What came of restoring a backup to see whether that can be done. */
export type VerifiedRestore = z.infer<typeof RestoreSchema>

/**
 * An object that was found damaged or missing. With `isContent` its bytes are those that were stored, and are not what they must be:
 * reading it without taking it apart says nothing of that.
 */
export type DamagedObject = z.infer<typeof DamagedSchema>

/** When segments of one timeline, `first` to `last`, were read and found sound. */
export interface VerifiedRun {
  first: string
  last: string
  at: string
}

/**
 * What was verified of a cluster in one repository, and when: `verified.json`. It is derived; who loses it verifies again. All
 * moments are of the host that verified, ISO 8601.
 */
export interface Verifications {
  cluster: string
  updatedAt: string
  /** What was stored when this was written, in bytes, and how much of it was never read and found sound. */
  bytes: number
  neverBytes: number
  /** When that object was read whose last reading is longest ago; undefined where none ever was. Never read ones do not count. */
  oldestAt?: string
  /**
   * Of a backup, when its objects were read, in the order of its record: a moment, or null for never, and for how many objects one
   * after the other it holds. `finishedAt` is the record's, by which it is known again.
   */
  backups: Record<string, { finishedAt: string; objects: [string | null, number][] }>
  /** In the order of the names; none overlap. */
  wal: VerifiedRun[]
  /** The same of encrypted ones of which a host without the key compared the sizes, and no more; none overlap. */
  walSizes?: VerifiedRun[]
  /** What was found damaged or missing, and not mended since. At most `MOST_DAMAGED`. */
  damaged: DamagedObject[]
  /** A look at everything that was begun and has not ended. */
  unfinished?: { since: string; decode: boolean }
  /** The newest try to restore a backup, and the newest that succeeded. */
  lastRestore?: VerifiedRestore
  lastProvenRestore?: VerifiedRestore
}

/** So many damaged objects are remembered by name. */
export const MOST_DAMAGED = 1000
/** Ten thousand backups take a few MiB. */
const LARGEST_BYTES = 256 * 1024 * 1024

/**
 * What is remembered of verifications.
 * @returns undefined where nothing is, or nothing that can be believed
 * @throws PgrecallError `repository` when there is no answer
 */
export async function readVerifications(
  storage: Pick<Storage, 'get'>,
  cluster: string,
): Promise<Verifications | undefined> {
  const bytes = await readObject(storage, verificationsKey(cluster), { limit: LARGEST_BYTES })
  if (!bytes) return undefined
  try {
    const { format: _format, ...stored } = StoredSchema.parse(JSON.parse(bytes.toString('utf8')))
    return stored.cluster === cluster ? stored : undefined
  } catch {
    return undefined
  }
}

/**
 * Remembers verifications. Of restores that were remembered in the meantime, by another process, the newest stay.
 * @param update is told what is remembered now, and says what is to be
 * @throws PgrecallError `repository` where it cannot be written
 */
export async function updateVerifications(
  storage: Pick<Storage, 'get' | 'put'>,
  cluster: string,
  update: (stored: Verifications | undefined) => Verifications,
): Promise<void> {
  const stored = await readVerifications(storage, cluster)
  const { damaged, lastRestore, lastProvenRestore, ...rest } = update(stored)
  const [last, proven] = [
    newerOf(lastRestore, stored?.lastRestore),
    newerOf(lastProvenRestore, stored?.lastProvenRestore),
  ]
  const record = {
    format: FORMAT,
    ...rest,
    damaged: damaged.slice(0, MOST_DAMAGED),
    ...(last && { lastRestore: last }),
    ...(proven && { lastProvenRestore: proven }),
  }
  await storage.put(verificationsKey(cluster), Buffer.from(`${JSON.stringify(record, undefined, 1)}\n`))
}

/**
 * Remembers how a restore of a backup ended.
 * @throws PgrecallError `repository` where it cannot be written
 */
export async function rememberRestore(
  storage: Pick<Storage, 'get' | 'put'>,
  cluster: string,
  restore: VerifiedRestore,
): Promise<void> {
  await updateVerifications(storage, cluster, (stored) => ({
    ...(stored ?? nothingVerified(cluster, restore.finishedAt)),
    lastRestore: restore,
    ...(restore.outcome === 'proven' && { lastProvenRestore: restore }),
  }))
}

/** What is remembered at first. @param now ISO 8601 */
export function nothingVerified(cluster: string, now: string): Verifications {
  return { cluster, updatedAt: now, bytes: 0, neverBytes: 0, backups: {}, wal: [], damaged: [] }
}

function newerOf(one: VerifiedRestore | undefined, other: VerifiedRestore | undefined) {
  if (!one || !other) return one ?? other
  return other.finishedAt > one.finishedAt ? other : one
}
