import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { answerOf } from '../backup/commands.ts'
import type { Cluster } from '../lab/cluster.ts'
import type { Lab } from '../lab/lab.ts'
import { giveToLabUser } from '../lab/user.ts'
import type { Source } from './source.ts'

/** A place for a data directory, and one for each of its tablespaces beside it. */
export interface Place {
  dataDirectory: string
  tablespaces: Record<string, string>
}

export function placeIn(lab: Lab, name: string, tablespaces: readonly string[]): Place {
  const dataDirectory = join(lab.scratch.path, name)
  return {
    dataDirectory,
    tablespaces: Object.fromEntries(tablespaces.map((space) => [space, `${dataDirectory}-${space}`])),
  }
}

/** What tells `restore` where the tablespaces go. */
export function tablespaceOptions(place: Place): string[] {
  return Object.entries(place.tablespaces).flatMap(([name, folder]) => ['--tablespace', `${name}=${folder}`])
}

/** The primary is stopped, and comes back as a standby that is promoted: another timeline in the same directory. */
export async function promoteInPlace({ cluster }: Source): Promise<void> {
  await cluster.stop('fast')
  await becomeStandby(cluster.dataDirectory)
  await cluster.start()
  await promote(cluster)
}

/** A standby that is restored from the newest backup gets all WAL from the archive, and takes over. */
export async function promoteRestored(lab: Lab, source: Source, place: Place): Promise<void> {
  const old = source.cluster
  const [last] = await old.sql<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn')
  await old.archiveWal()
  const options = ['--standby', '--data-directory', place.dataDirectory, ...tablespaceOptions(place)]
  await answerOf(lab, ['restore', ...options])
  await old.kill9()
  const standby = await lab.adopt(place.dataDirectory)
  await standby.start()
  await standby.waitUntil(`pg_last_wal_replay_lsn() >= '${last!.lsn}'`, { timeoutMs: 60_000 })
  await takeOver(lab, source, standby)
}

/** A copy of the primary as it is now, to be promoted later. */
export async function copyForLater({ cluster }: Source, place: Place): Promise<void> {
  const locations = await cluster.sql<{ name: string; location: string }>(
    `SELECT spcname AS name, pg_tablespace_location(oid) AS location FROM pg_tablespace WHERE oid >= 16384`,
  )
  const mappings = locations.flatMap(({ name, location }) => ['-T', `${location}=${place.tablespaces[name]}`])
  const options = ['--wal-method=stream', '--checkpoint=fast', '--no-sync', '--no-manifest']
  await cluster.run('pg_basebackup', ['-D', place.dataDirectory, ...options, ...mappings])
}

/** The copy takes over, without anything that happened since it was made. */
export async function promoteCopy(lab: Lab, source: Source, place: Place): Promise<void> {
  await source.cluster.kill9()
  await becomeStandby(place.dataDirectory)
  // Where its primary was restored, it would know where the archive is.
  const standby = await lab.adopt(place.dataDirectory, { settings: { restore_command: '' } })
  await standby.start()
  await takeOver(lab, source, standby)
}

async function takeOver(lab: Lab, source: Source, standby: Cluster): Promise<void> {
  await promote(standby)
  const { dataDirectory, host, port, user } = standby
  await lab.writeConfiguration((configuration) => {
    Object.assign(configuration.clusters.main!, { dataDirectory, connection: { host, port, user } })
  })
  await source.follow(standby)
}

async function promote(cluster: Cluster): Promise<void> {
  await cluster.sql('SELECT pg_promote(false)')
  await cluster.waitForPromotion()
}

async function becomeStandby(dataDirectory: string): Promise<void> {
  const signal = join(dataDirectory, 'standby.signal')
  await writeFile(signal, '')
  await giveToLabUser(signal)
}
