import type { Catalog } from '../catalog/catalog.ts'
import type { Repository } from '../catalog/repository.ts'
import { type RestoreRate, readRestoreRates } from '../catalog/restore-rates.ts'
import { readVerifications, type Verifications } from '../catalog/verification-file.ts'
import type { RepositoryFacts, ServerFacts, Stored, Verified } from './facts.ts'
import { growthOf } from './growth.ts'
import { restoreEstimate } from './restore-estimate.ts'
import { rpoOf } from './rpo.ts'

/** What may come: what would be lost, how long a restore takes, how fast it grows, and what was tried of it. */
export type Outlook = Pick<RepositoryFacts, 'rpo' | 'restore' | 'stored' | 'growth' | 'verified'>

/** What earlier runs left of what they measured and found. */
export interface Remembered {
  rates: readonly RestoreRate[]
  verifications: Verifications | undefined
}

/** @throws PgrecallError `repository` when there is no answer */
export async function readRemembered({ storage }: Repository, cluster: string): Promise<Remembered> {
  const [rates, verifications] = await Promise.all([
    readRestoreRates(storage, cluster),
    readVerifications(storage, cluster),
  ])
  return { rates, verifications }
}

/** Pure. */
export function outlookOf(
  held: Parameters<typeof rpoOf>[0],
  catalog: Catalog,
  { rates, verifications }: Remembered,
  { server, now }: { server: ServerFacts; now: Date },
): Outlook {
  return {
    rpo: rpoOf(held, server, catalog.walSegmentBytes, now) ?? null,
    restore: restoreEstimate(catalog, rates) ?? null,
    stored: storedOf(catalog),
    growth: growthOf(catalog, now) ?? null,
    verified: verifications ? verifiedOf(verifications, now) : null,
  }
}

function storedOf({ backups, logical, wal }: Catalog): Stored {
  const bytesOf = (all: readonly { storedBytes: number }[]) =>
    all.reduce((sum, { storedBytes }) => sum + storedBytes, 0)
  const runs = wal.flatMap(({ ranges }) => ranges)
  return {
    backups: backups.length,
    backupBytes: bytesOf(backups),
    logical: logical.length,
    logicalBytes: bytesOf(logical),
    walSegments: runs.reduce((sum, { segments }) => sum + segments, 0),
    walBytes: bytesOf(runs),
  }
}

function verifiedOf(
  { updatedAt, oldestAt, bytes, neverBytes, damaged, lastRestore, lastProvenRestore }: Verifications,
  now: Date,
): Verified {
  const since = (iso: string) => Math.max(0, Math.round((now.getTime() - Date.parse(iso)) / 1000))
  return {
    updatedAt,
    oldestAt: oldestAt ?? null,
    ageSeconds: oldestAt === undefined ? null : since(oldestAt),
    bytes,
    neverBytes,
    damaged: damaged.map(({ foundAt: _foundAt, ...rest }) => rest),
    lastRestore: lastRestore ?? null,
    lastProvenRestore: lastProvenRestore
      ? { ...lastProvenRestore, ageSeconds: since(lastProvenRestore.finishedAt) }
      : null,
  }
}

/** What of a repository fills it. */
type Filling = Pick<RepositoryFacts, 'location' | 'freeBytes' | 'growth' | 'fullInSeconds'>

/** Several clusters fill one repository. @param all of each cluster that was looked at */
export function addFullness(all: readonly Filling[]): void {
  for (const facts of all) {
    const grows = all
      .filter(({ location }) => location === facts.location)
      .reduce((sum, { growth }) => sum + (growth?.storedBytesPerDay ?? 0), 0)
    if (facts.freeBytes !== null && grows > 0)
      facts.fullInSeconds = Math.round((facts.freeBytes * 24 * 60 * 60) / grows)
  }
}
