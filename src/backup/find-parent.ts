import { decode, methodOf } from '../archive/codec.ts'
import { type BackupRecord, type BackupSummary, readBackupRecord } from '../catalog/backup-record.ts'
import { chainOf } from '../catalog/chain.ts'
import { readKnownDamage } from '../catalog/known-damage.ts'
import { backupPrefix, backupRecordKey } from '../catalog/layout.ts'
import type { Repository } from '../catalog/repository.ts'
import { readContent } from '../catalog/sealed-object.ts'
import { readStoredHistory } from '../catalog/stored-history.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { Events } from '../events.ts'
import type { ClusterFacts } from '../postgres/server.ts'
import { parseHistory, type TimelineHistory } from '../postgres/timeline-history.ts'
import { sideBySide } from '../side-by-side.ts'
import type { Destinations } from './destinations.ts'
import type { BackupMethod, BackupRequest, ParentBackup } from './method.ts'
import { chooseParent, type ParentChoice } from './parent.ts'
import { ParentFiles } from './parent-files.ts'
import type { ServerPlace } from './server-place.ts'

/** How many small requests are under way at once: a store that is far away answers each of them late. */
const AT_ONCE = 24

/** The type of a new backup, and what it builds upon. */
export interface BackupBasis {
  type: BackupRecord['type']
  parent: ParentBackup | undefined
  /** Where another type was asked for than can be had. */
  warnings: string[]
}

/**
 * Finds the backup that a new one builds upon. Where there is none the new one is full, and it is said why.
 * @throws the signal's reason, and PgrecallError `connection`
 */
export async function findParent(
  request: BackupRequest,
  method: BackupMethod,
  facts: ClusterFacts,
  destinations: Destinations,
  { events, signal }: { events: Events; signal: AbortSignal },
): Promise<BackupBasis> {
  if (request.type === 'full') return { type: 'full', parent: undefined, warnings: [] }
  const found = await lookForParent(request, method, facts, destinations, signal)
  const warnings = found.warning === undefined ? [] : [found.warning]
  if ('reason' in found) {
    const basis = fullInstead(request, found.reason, events)
    return { ...basis, warnings: [...basis.warnings, ...warnings] }
  }
  events.emit('step', { text: `Building upon backup ${found.parent.record.id}` })
  return { type: request.type === 'diff' ? 'diff' : 'incr', parent: found.parent, warnings }
}

/** What is done where nothing can be built upon. @param reason as a part of a sentence */
export function fullInstead({ type }: BackupRequest, reason: string, events: Events): BackupBasis {
  const text = `a full backup is taken: ${reason}`
  if (type === 'auto') events.emit('step', { text: `${text[0]!.toUpperCase()}${text.slice(1)}` })
  return { type: 'full', parent: undefined, warnings: type === 'auto' ? [] : [text] }
}

async function lookForParent(
  request: BackupRequest,
  method: BackupMethod,
  facts: ClusterFacts,
  destinations: Destinations,
  signal: AbortSignal,
): Promise<ParentChoice<ParentBackup>> {
  const reason = method.fullOnly(facts)
  if (reason !== undefined || !method.place)
    return { reason: reason ?? `method "${method.name}" builds upon nothing` }
  const known = await destinations.each(({ repository, catalog }) =>
    readKnownDamage(repository.storage, catalog),
  )
  const damageOf = (backup: BackupSummary) =>
    known.map(({ answer }) => answer.above(backup)).find((damage) => damage !== undefined)
  const repositories = destinations.live.map(({ repository }) => repository)
  const place = await withStoredHistory(await method.place(), repositories, request.cluster)
  const held = destinations.live.map(({ catalog }) => catalog.backups)
  const chosen = chooseParent(held, request, facts, place, damageOf)
  if ('reason' in chosen) return chosen
  const { parent, ...warned } = chosen
  const lost = await lostLink(parent, destinations)
  if (lost !== undefined) return { reason: `${parent.id} is no parent: ${lost}`, ...warned }
  const opened = { ...(await openParent(parent, repositories, place, signal)), ...warned }
  if ('reason' in opened) return opened
  const fault =
    opened.parent.record.withoutVisibilityMaps && method.name === 'stream'
      ? `${parent.id} is no parent: it has no visibility maps, and the server would send them`
      : await method.cannotBuildUpon?.(opened.parent)
  return fault === undefined ? opened : { reason: fault, ...warned }
}

/** A server on another host does not hand out its history; its archive has it. */
async function withStoredHistory(
  place: ServerPlace,
  repositories: readonly Repository[],
  cluster: string,
): Promise<ServerPlace> {
  for (const { storage } of place.history ? [] : repositories) {
    const stored = await readStoredHistory(storage, cluster, place.timeline).catch(() => undefined)
    if (!stored?.ancestors) continue
    const lines = stored.ancestors.map(({ timeline, switchedAt }) => `${timeline}\t${switchedAt}\n`)
    return { ...place, history: parseHistory(lines.join(''), place.timeline) }
  }
  return place
}

/** Of a long chain the catalog is believed: whether each link of it is there, where the new backup goes, its record says. */
async function lostLink(
  { id, cluster }: BackupSummary,
  destinations: Destinations,
): Promise<string | undefined> {
  const answers = await destinations.each(async ({ repository, catalog: { backups } }) => {
    const { links } = chainOf(backups, backups.find((backup) => backup.id === id)!)
    const records = await sideBySide(links, AT_ONCE, (link) =>
      repository.storage.stat(backupRecordKey(cluster, link.id)),
    )
    const lost = links.find((_, index) => records[index] === undefined)
    return lost && `the record of ${lost.id} is gone from repository "${repository.name}"`
  })
  return answers.find(({ answer }) => answer !== undefined)?.answer
}

/** Reads what has to be known of the parent, from the first repository that gives it. */
async function openParent(
  { cluster, id, timeline }: BackupSummary,
  repositories: readonly Repository[],
  place: ServerPlace,
  signal: AbortSignal,
): Promise<ParentChoice<ParentBackup>> {
  let failure: unknown
  for (const repository of repositories) {
    try {
      const record = await readBackupRecord(repository.storage, cluster, id)
      if (!record) throw new PgrecallError('absent', 'it is gone')
      const files = await ParentFiles.read(repository, record, signal)
      const manifest = () => manifestOf(repository, record)
      const history = place.history ?? ownTimeline(timeline)
      return { parent: { record, files, manifest, history } }
    } catch (error) {
      signal.throwIfAborted()
      failure ??= error
    }
  }
  const isKey = failure instanceof PgrecallError && failure.kind === 'key'
  const why = isKey
    ? 'its indexes are encrypted, and this host has no key that opens them'
    : reasonOf(failure)
  return { reason: `${id} is no parent: ${why}` }
}

const ownTimeline = (timeline: number): TimelineHistory => [{ timeline, begin: 0n, end: undefined }]

async function* manifestOf(repository: Repository, record: BackupRecord): AsyncGenerator<Buffer> {
  const object = record.objects.find(({ kind }) => kind === 'manifest')
  const key = backupPrefix(record.cluster, record.id) + object?.name
  const content = object && (await readContent(repository, key))
  if (!content) throw new PgrecallError('damaged', `the manifest of backup ${record.id} is missing`)
  yield* decode(methodOf(object.name), content)
}
