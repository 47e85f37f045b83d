import { z } from 'zod'
import { reasonOf } from '../errors.ts'
import type { Events } from '../events.ts'
import { readObject, type Storage } from '../storage/storage.ts'
import { FORMAT } from './identity.ts'
import { isBackupId, restoreRatesKey } from './layout.ts'
import type { Repository } from './repository.ts'

const count = z.number().int().nonnegative()

const RateSchema = z.object({
  /** A restore, or one into a scratch server that `verify --restore` made. */
  kind: z.enum(['restore', 'verify']),
  backup: z.string().refine(isBackupId, 'not a backup id'),
  finishedAt: z.iso.datetime(),
  /** What was written: the cluster's files, or databases by what they took up when they were dumped. */
  bytes: count,
  seconds: z.number().positive(),
  jobs: count,
})

const StoredSchema = z.object({
  format: z.literal(FORMAT),
  cluster: z.string(),
  restores: z.array(RateSchema),
})

/** How long a restore took; the replay of WAL is not part of it. */
export type RestoreRate = z.infer<typeof RateSchema>

/** An estimate needs the newest few. */
const MOST_REMEMBERED = 32
const LARGEST_BYTES = 1024 * 1024

/**
 * What restores of a cluster from this repository took, oldest first: `restore-rates.json`. It is derived; who loses it has an
 * estimate from the rates of the backups.
 * @returns nothing where nothing is remembered that can be believed
 * @throws PgrecallError `repository` when there is no answer
 */
export async function readRestoreRates(
  storage: Pick<Storage, 'get'>,
  cluster: string,
): Promise<RestoreRate[]> {
  const bytes = await readObject(storage, restoreRatesKey(cluster), { limit: LARGEST_BYTES })
  if (!bytes) return []
  try {
    const stored = StoredSchema.parse(JSON.parse(bytes.toString('utf8')))
    return stored.cluster === cluster ? stored.restores : []
  } catch {
    return []
  }
}

/** As it only helps an estimate, a repository that may not be written is no failure. */
export async function noteRestoreRate(
  { storage }: Pick<Repository, 'storage'>,
  cluster: string,
  rate: RestoreRate,
  events: Events,
): Promise<void> {
  await rememberRestoreRate(storage, cluster, rate).catch((error) =>
    events.emit('detail', { text: `what the restore took could not be remembered: ${reasonOf(error)}` }),
  )
}

/**
 * Remembers what a restore took. Of two that end in the same moment one may be forgotten.
 * @throws PgrecallError `repository` where it cannot be written
 */
export async function rememberRestoreRate(
  storage: Pick<Storage, 'get' | 'put'>,
  cluster: string,
  rate: RestoreRate,
): Promise<void> {
  const restores = [...(await readRestoreRates(storage, cluster)), rate].slice(-MOST_REMEMBERED)
  const stored = { format: FORMAT, cluster, restores }
  await storage.put(restoreRatesKey(cluster), Buffer.from(`${JSON.stringify(stored, undefined, 1)}\n`))
}
