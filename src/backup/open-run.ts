import { newIdentity } from '../archive/age.ts'
import { needlessDebris } from '../catalog/catalog.ts'
import { backupId, backupPrefix, backupRecordKey, isLogicalId, momentOfBackupId } from '../catalog/layout.ts'
import { lostText } from '../catalog/lost-records.ts'
import { removeDebris } from '../catalog/remove-backup.ts'
import { reasonOf } from '../errors.ts'
import type { Events } from '../events.ts'
import { BackupStore } from './backup-store.ts'
import type { Destination, Destinations } from './destinations.ts'
import type { BackupBasis } from './find-parent.ts'
import type { BackupMethod, BackupRequest, BackupRun } from './method.ts'
import { KeptShards } from './resume.ts'

interface RunContext {
  events: Events
  signal: AbortSignal
  now: () => Date
}

/** The new backup's id and folder: those of an interrupted run, where it can be gone on with. All other debris goes. */
export async function openRun(
  request: BackupRequest,
  method: BackupMethod,
  { type, parent }: BackupBasis,
  destinations: Destinations,
  context: RunContext,
): Promise<BackupRun> {
  const { events, signal } = context
  const { cluster } = request
  const recipients = destinations.live.flatMap(({ repository }) => repository.keys.sealer?.recipients ?? [])
  // As strong as the strongest of those that it stands beside.
  const postQuantum = recipients.some((recipient) => recipient.startsWith('age1pq'))
  const own = recipients.length > 0 ? await newIdentity({ postQuantum }) : undefined
  const runOf = (id: string, kept: KeptShards): BackupRun => ({
    request,
    events,
    signal,
    id,
    type,
    parent,
    kept,
    indexIdentities: own ? [own.identity] : [],
    store: openStore(destinations, backupPrefix(cluster, id), own?.recipient),
  })
  const onLeft = (text: string) => events.emit('detail', { text })
  const mayResume = request.resume && method.resumes && type === 'full'
  const interrupted = await clearDebris(cluster, mayResume, destinations, context)
  if (interrupted !== undefined) {
    const repositories = destinations.live.map(({ repository }) => repository)
    const folder = backupPrefix(cluster, interrupted)
    const kept = await KeptShards.find(repositories, folder, request.codec).catch((error) => {
      // What holds things that may not be removed, as they are locked, is not gone on with.
      onLeft(`the unfinished backup ${interrupted} is not gone on with: ${reasonOf(error)}`)
      return KeptShards.none()
    })
    if (kept.offeredBytes > 0) return runOf(interrupted, kept)
    for (const { storage } of repositories) await removeDebris(storage, cluster, interrupted, onLeft)
  }
  return runOf(await newBackupId(destinations, cluster, type, context), KeptShards.none())
}

/** The folder of a backup in all repositories that were not given up. One whose lock is lost is given up. */
export function openStore(
  destinations: Destinations,
  folder: string,
  indexRecipient: string | undefined,
): BackupStore {
  const store = new BackupStore(
    destinations.live.map(({ repository }) => repository),
    folder,
    { indexRecipient, onLost: (name, error) => destinations.fail(name, error) },
  )
  for (const { repository, lock } of destinations.live) {
    lock.lost.addEventListener('abort', () => store.lose(repository.name, lock.lost.reason), { once: true })
  }
  return store
}

/** Removes what unfinished backups have left. @returns the one that can be gone on with, in every repository */
async function clearDebris(
  cluster: string,
  isResuming: boolean,
  destinations: Destinations,
  context: Pick<RunContext, 'events'>,
): Promise<string | undefined> {
  const found = await findDebris(destinations, context)
  const mayResume = isResuming && !found.some(({ destination }) => destination.lock.mayHaveRival)
  const isInterrupted = (id: string) =>
    id.endsWith('-full') &&
    found.every(({ answer, destination }) => answer.includes(id) && id > newestOf(destination))
  const interrupted = mayResume ? found[0]!.answer.filter(isInterrupted).at(-1) : undefined
  await removeAll(cluster, found, (id) => id !== interrupted, context)
  return interrupted
}

/** Removes what unfinished logical backups have left; what physical ones have, the next of these may go on from. */
export async function clearLogicalDebris(
  cluster: string,
  destinations: Destinations,
  context: Pick<RunContext, 'events'>,
): Promise<void> {
  await removeAll(cluster, await findDebris(destinations, context), isLogicalId, context)
}

interface FoundDebris {
  destination: Destination
  /** Ids of unfinished backups. */
  answer: string[]
}

function findDebris(
  destinations: Destinations,
  { events }: Pick<RunContext, 'events'>,
): Promise<FoundDebris[]> {
  return destinations.each(({ repository: { name, storage }, catalog }) => {
    for (const id of catalog.lost ?? [])
      events.emit('warning', { text: `repository "${name}": ${lostText(id)}` })
    return needlessDebris(storage, catalog)
  })
}

async function removeAll(
  cluster: string,
  found: readonly FoundDebris[],
  isUnwanted: (id: string) => boolean,
  { events }: Pick<RunContext, 'events'>,
): Promise<void> {
  for (const { destination, answer: debris } of found) {
    // One that only fell silent may wake up and go on for a moment: what it was writing is not touched.
    if (destination.lock.mayHaveRival) continue
    for (const id of debris.filter(isUnwanted)) {
      events.emit('detail', { text: `Removing what is left of the unfinished backup ${id}` })
      const onLeft = (text: string) => events.emit('detail', { text })
      await removeDebris(destination.repository.storage, cluster, id, onLeft)
    }
  }
}

const newestOf = ({ catalog }: Destination) => catalog.backups.at(-1)?.id ?? ''

const newestOfAll = ({ catalog: { backups, logical } }: Destination) =>
  [backups.at(-1)?.id ?? '', logical.at(-1)?.id ?? ''].toSorted().at(-1)!

/** Ids sort by time, and the newest counts most: a clock that was set back must not make a new backup the oldest. */
export async function newBackupId(
  destinations: Destinations,
  cluster: string,
  type: BackupRun['type'] | 'logical',
  { events, now }: Pick<RunContext, 'events' | 'now'>,
): Promise<string> {
  const last = destinations.live.map(newestOfAll).reduce((newest, id) => (id > newest ? id : newest), '')
  let moment = now()
  if (last !== '' && moment < new Date(momentOfBackupId(last).getTime() + 1000)) {
    const after = momentOfBackupId(last).getTime() + 1000
    if (after - moment.getTime() > 60_000) {
      events.emit('warning', {
        text: `this host's clock is behind the last backup, ${last}; the new one is named to follow it`,
      })
    }
    moment = new Date(after)
  }
  for (; ; moment = new Date(moment.getTime() + 1000)) {
    const id = backupId(moment, type)
    const key = backupRecordKey(cluster, id)
    const taken = await destinations.each(({ repository }) => repository.storage.stat(key))
    if (taken.every(({ answer }) => answer === undefined)) return id
  }
}
