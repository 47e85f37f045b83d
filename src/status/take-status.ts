import { type Catalog, loadCatalog, saveLook } from '../catalog/catalog.ts'
import type { Repository } from '../catalog/repository.ts'
import { reasonOf } from '../errors.ts'
import type { Events } from '../events.ts'
import type { Server } from '../postgres/server.ts'
import { askServer } from './archiver.ts'
import type { Finding, RepositoryFacts, ServerFacts } from './facts.ts'
import { judgeRepository, judgeServer, secondsUntilFull } from './judge.ts'
import { addFullness } from './outlook.ts'
import { repositoryFacts, unreadable } from './repository-facts.ts'
import { type Holding, missingIn, neededWal } from './spread.ts'
import { severityAbove, THRESHOLDS, type Thresholds } from './thresholds.ts'
import { pathTo } from './windows.ts'

export interface StatusContext {
  repositories: readonly Repository[]
  connect: () => Promise<Server>
  dataDirectory: string | undefined
  /** The replication slot of `wal-receive`. */
  slot: string
  events: Events
  signal: AbortSignal
  now: () => Date
  /** From when on something is told; `THRESHOLDS` when left out. */
  limits?: Thresholds
}

export interface Status {
  server: ServerFacts
  /** About the server and its archiver. */
  findings: Finding[]
  repositories: { facts: RepositoryFacts; findings: Finding[] }[]
}

type Read = { repository: Repository; catalog: Catalog | undefined; error: string | undefined }

const DEFAULT_SEGMENT_BYTES = 16 * 1024 * 1024

/** What is known of a cluster before it is judged. */
interface Look {
  server: ServerFacts
  facts: RepositoryFacts[]
  clusterIdentifier: string | undefined
  now: Date
}

/**
 * What can be recovered, how far the archive is behind, and what is wrong. Neither a server that is down nor a
 * repository that cannot be read is an error: each is a finding.
 */
export async function takeStatus(cluster: string, context: StatusContext): Promise<Status> {
  const [status] = await takeStatuses([{ cluster, context }])
  return status!
}

/** The same of several clusters, which may fill one repository together. @returns one for each, in their order */
export async function takeStatuses(
  questions: readonly { cluster: string; context: StatusContext }[],
): Promise<Status[]> {
  const looks: Look[] = []
  for (const { cluster, context } of questions) looks.push(await lookAt(cluster, context))
  addFullness(looks.flatMap(({ facts }) => facts))
  return looks.map((look, index) => judge(look, questions[index]!.context.limits))
}

function judge({ server, facts, clusterIdentifier, now }: Look, limits: Thresholds = THRESHOLDS): Status {
  return {
    server,
    findings: judgeServer(server, clusterIdentifier, secondsSinceStored(facts, now), limits),
    repositories: facts.map((each) => ({ facts: each, findings: judgeRepository(each, server, limits) })),
  }
}

async function lookAt(cluster: string, context: StatusContext): Promise<Look> {
  const { repositories, signal } = context
  const now = context.now()
  const reads: Read[] = []
  for (const repository of repositories) reads.push(await readCatalog(repository, cluster, context))
  const catalogs = reads.flatMap(({ catalog }) => catalog ?? [])
  const server = await serverFacts(catalogs, context, now)
  const facts: RepositoryFacts[] = []
  for (const { repository, catalog, error } of reads) {
    // Where another cluster's server answers, what it writes says nothing of this archive.
    const isOurs = server.systemIdentifier === catalog?.systemIdentifier
    const look = {
      repository,
      server: isOurs ? server : { ...server, timeline: null, lsn: null, walClock: null },
      now,
      signal,
    }
    facts.push(catalog ? await readFacts(catalog, look) : unreadable(repository, error!))
  }
  addSpread(reads, facts, now, context.limits)
  return { server, facts, clusterIdentifier: identifierOf(catalogs), now }
}

/** What can be listed and not read is a finding, too. */
async function readFacts(
  catalog: Catalog,
  look: Parameters<typeof repositoryFacts>[1],
): Promise<RepositoryFacts> {
  return await repositoryFacts(catalog, look).catch((error) => {
    look.signal.throwIfAborted()
    return unreadable(look.repository, reasonOf(error))
  })
}

/** How long nothing of the current timeline was stored, in whatever repository. */
function secondsSinceStored(facts: readonly RepositoryFacts[], now: Date): number | undefined {
  const newest = facts
    .flatMap(({ receiving, archived }) => receiving?.storedAt ?? archived?.storedAt ?? [])
    .toSorted()
    .at(-1)
  return newest === undefined ? undefined : Math.max(0, (now.getTime() - Date.parse(newest)) / 1000)
}

/** Believes the catalog as far as the listing confirms it, and brings it up to date, where that may be written. */
async function readCatalog(
  repository: Repository,
  cluster: string,
  { now, events, signal }: StatusContext,
): Promise<Read> {
  try {
    const catalog = await loadCatalog(repository.storage, cluster, { believing: true })
    await saveLook(repository.storage, catalog, now()).catch((error) =>
      events.emit('detail', { text: `the catalog could not be written: ${reasonOf(error)}` }),
    )
    return { repository, catalog, error: undefined }
  } catch (error) {
    signal.throwIfAborted()
    return { repository, catalog: undefined, error: reasonOf(error) }
  }
}

async function serverFacts(
  catalogs: readonly Catalog[],
  context: StatusContext,
  now: Date,
): Promise<ServerFacts> {
  const asked = await askServer({
    connect: context.connect,
    dataDirectory: context.dataDirectory,
    slot: context.slot,
    systemIdentifier: identifierOf(catalogs),
    walSegmentBytes: catalogs[0]?.walSegmentBytes ?? DEFAULT_SEGMENT_BYTES,
    now,
    signal: context.signal,
  })
  const walBytesPerSecond = asked.walBytesPerSecond ?? archivesRate(catalogs)
  const server = { ...asked, walBytesPerSecond }
  return { ...server, fullInSeconds: secondsUntilFull(server, context.limits) }
}

const identifierOf = (catalogs: readonly Catalog[]) =>
  catalogs.find(({ systemIdentifier }) => systemIdentifier !== undefined)?.systemIdentifier

/** How fast WAL came into the archive, by its newest run. */
function archivesRate(catalogs: readonly Catalog[]): number | null {
  for (const { wal, walSegmentBytes } of catalogs) {
    const run = wal.at(-1)?.ranges.at(-1)
    const spanMs = run ? Date.parse(run.newestStoredAt) - Date.parse(run.firstStoredAt) : 0
    if (run && spanMs > 60_000) return (run.segments * walSegmentBytes * 1000) / spanMs
  }
  return null
}

/** What one repository has on the way to now and another lacks. */
function addSpread(
  reads: readonly Read[],
  facts: readonly RepositoryFacts[],
  now: Date,
  { archiveLate }: Thresholds = THRESHOLDS,
): void {
  const holdings = reads.map(
    ({ repository, catalog }): Holding => ({ repository: repository.name, wal: catalog?.wal ?? [] }),
  )
  // Each repository may lack the very history that tells the way.
  const histories = holdings.flatMap(({ wal }) => wal).filter(({ history }) => history)
  for (const [index, { catalog }] of reads.entries()) {
    const { currentTimeline } = facts[index]!
    if (!catalog || currentTimeline === null) continue
    const own = holdings[index]!
    const newest = own.wal.find(({ timeline }) => timeline === currentTimeline)?.ranges.at(-1)?.newestStoredAt
    const isLate =
      !newest || severityAbove((now.getTime() - Date.parse(newest)) / 1000, archiveLate) === 'fail'
    facts[index]!.missing = missingIn(
      own,
      holdings.filter((other) => other !== own),
      neededWal(catalog, pathTo(histories, currentTimeline)),
      catalog.walSegmentBytes,
      isLate,
    )
  }
}
