import type { BackupRecord } from '../catalog/backup-record.ts'
import { pathInCluster } from '../catalog/layout.ts'
import type { Reconstruction } from '../reconstruction/reconstruction.ts'

/**
 * The damaged pages that the links of a chain tell of, in files of which something comes from that very link. A page that a
 * newer link has anew may be among them: better told than hidden.
 * @returns what is to be recorded; without a number where pages of some link were not checked and nothing was found
 */
export function keptDamage(
  chain: readonly BackupRecord[],
  reconstruction: Reconstruction,
): Pick<BackupRecord, 'damaged' | 'damagedPages'> {
  const isTold = chain.some(({ damaged }) => damaged.length > 0)
  const sources = isTold ? sourcesOfFiles(reconstruction) : new Map<string, Set<string>>()
  const damaged = chain.flatMap((link) => link.damaged.filter(({ path }) => sources.get(path)?.has(link.id)))
  const areChecked = chain.every(({ damagedPages }) => damagedPages !== undefined)
  const damagedPages = damaged.reduce((sum, { pages }) => sum + pages, 0)
  return { damaged, ...((areChecked || damagedPages > 0) && { damagedPages }) }
}

/** The backups in which parts of each file lie, by its path in the cluster. */
function sourcesOfFiles(reconstruction: Reconstruction): Map<string, Set<string>> {
  const { shards } = reconstruction
  const sources = new Map<string, Set<string>>()
  for (const base of reconstruction.baseShards()) {
    const { group } = shards[base.shard]!
    for (const { path, increments } of base.members) {
      const parts = [base.shard, ...increments.map(({ shard }) => shard)]
      sources.set(pathInCluster(group, path), new Set(parts.map((shard) => shards[shard]!.backup)))
    }
  }
  return sources
}
