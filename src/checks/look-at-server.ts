import { PgrecallError, reasonOf } from '../errors.ts'
import { quoteIdentifier, type Server, type ServerFacts } from '../postgres/server.ts'
import { askServer } from '../status/archiver.ts'
import { type ArchivingFacts, askArchiving, judgeArchiving, judgeWaiting } from './archiving.ts'
import { checkArchiveCommand } from './ask-archive-command.ts'
import { checkServerClock } from './clock.ts'
import { askDatabases, judgeDumpRights, judgeUnlogged } from './databases.ts'
import { type Finding, fail, lookInto, pass, softened, together } from './finding.ts'
import type { Purpose } from './purpose.ts'
import type { LookOverQuestion } from './question.ts'
import type { CheckedRepository } from './repositories.ts'
import { askRights, judgeRights } from './rights.ts'
import { checkReadable, checkTablespaces, isOnThisHost, judgeOutsideFiles } from './server-files.ts'
import { askSettings, judgeSettings } from './settings.ts'
import { askSlots, judgeSlots } from './slots.ts'
import { archivedRate, askWalDisk, judgeRepositorySpace, judgeWalDisk, spaceFacts } from './space.ts'
import { askPrepared, judgePrepared } from './transactions.ts'

/** What is said of the server, in the order in which it is told. */
export interface ServerLook {
  facts: ServerFacts | undefined
  server: Finding[]
  archiving: Finding[]
  space: Finding[]
  /** Whether `wal-receive` is used. */
  receives: boolean
}

type Stores = readonly CheckedRepository[]

/** @throws PgrecallError `connection` when the session is lost meanwhile */
export async function lookAtServer(
  server: Server,
  question: LookOverQuestion,
  purpose: Purpose,
  stores: Stores,
): Promise<ServerLook> {
  const { config, signal } = question
  let facts: ServerFacts
  try {
    facts = await server.facts()
  } catch (error) {
    signal.throwIfAborted()
    const told = fail('server', reasonOf(error), error instanceof PgrecallError ? error.hint : undefined)
    return { facts: undefined, server: [told], archiving: [], space: [], receives: false }
  }
  const isHere = await isOnThisHost(facts.dataDirectory, facts.systemIdentifier)
  const slot = config.wal.receive.slot
  const { slots, bound } = await askSlots(server)
  return {
    facts,
    server: [
      ...together('server', await judgeServer(server, facts, isHere, question, purpose)),
      ...together('settings', await judgeItsSettings(server, question, purpose)),
      ...together('databases', await judgeDatabases(server, facts, question, purpose)),
    ],
    archiving: together('archiving', [
      ...(await lookAtArchiving(server, facts, isHere, question, purpose)),
      ...judgeSlots(slots, slot, bound),
    ]),
    space: [
      ...(await repositorySpace(stores, await server.dataBytes(), question)),
      ...(isHere && !facts.inRecovery
        ? await walSpace(facts.dataDirectory, facts.walSegmentBytes, stores, question, {
            maxWalBytes: await maxWalBytes(server),
            slotBytes: slots.length > 0 ? bound : undefined,
          })
        : []),
    ],
    receives: slots.some(({ name, active }) => name === slot && !active),
  }
}

/** A server that is down leaves its files, which tell what waits and how much room it has. */
export async function lookWithoutServer(question: LookOverQuestion, stores: Stores): Promise<ServerLook> {
  const { dataDirectory } = question.config
  // It was asked just now.
  const connect = () => Promise.reject(new Error('the server does not answer'))
  const waiting = await waitingSegments({ ...question, connect }, dataDirectory, stores)
  const segmentBytes = stores.flatMap(({ catalog }) => catalog?.walSegmentBytes ?? [])[0] ?? 16 * 1024 * 1024
  const unbound = { maxWalBytes: undefined, slotBytes: undefined }
  return {
    facts: undefined,
    server: [],
    archiving: judgeWaiting(waiting),
    space: [
      ...(await repositorySpace(stores, undefined, question)),
      ...(dataDirectory === undefined
        ? []
        : await walSpace(dataDirectory, segmentBytes, stores, question, unbound)),
    ],
    receives: false,
  }
}

async function judgeServer(
  server: Server,
  facts: ServerFacts,
  isHere: boolean,
  question: LookOverQuestion,
  { physical }: Purpose,
): Promise<Finding[]> {
  const { config, signal } = question
  const { method } = config.backup
  const told = pass('server', `PostgreSQL ${facts.versionText.split(' ')[0]} with ${facts.dataDirectory}`)
  const clock = await lookInto('clock', signal, async () => [await checkServerClock(server)])
  const rights = await lookInto('rights', signal, async () => judgeRights(await askRights(server)))
  if (!physical) return [told, ...clock, ...rights]
  return [
    told,
    ...(await judgeMethod(question)),
    ...clock,
    ...rights,
    ...(isHere && method !== 'stream' ? [await checkReadable(facts.dataDirectory)] : []),
    ...(await checkTablespaces(facts, method)),
    ...judgeOutsideFiles(facts.outsideFiles),
  ]
}

function judgeItsSettings(
  server: Server,
  question: LookOverQuestion,
  { archived }: Purpose,
): Promise<Finding[]> {
  return lookInto('settings', question.signal, async () =>
    judgeSettings(await askSettings(server), { archived, withoutSummaries: withoutSummaries(question) }),
  )
}

/** All that the configured method would refuse; a cold backup is taken when the server, which runs now, is shut down. */
async function judgeMethod({ config, checkMethod, signal }: LookOverQuestion): Promise<Finding[]> {
  const { method } = config.backup
  if (method === 'cold') return [pass('backup', 'running, to be shut down for a backup by "cold"')]
  try {
    await checkMethod()
    return [pass('backup', `ready for backups by "${method}"`)]
  } catch (error) {
    signal.throwIfAborted()
    const hint = error instanceof PgrecallError ? error.hint : undefined
    return [fail('backup', `a backup by "${method}" would be refused: ${reasonOf(error)}`, hint)]
  }
}

/** How an incremental backup is taken where the server cannot tell what has changed. */
function withoutSummaries({ config: { backup } }: LookOverQuestion): string | undefined {
  if (backup.type === 'full') return undefined
  if (backup.method === 'stream') return 'every backup is a full one'
  return backup.method === 'files' ? 'incremental backups read every changed file whole' : undefined
}

function judgeDatabases(
  server: Server,
  { version }: ServerFacts,
  { connection, signal }: LookOverQuestion,
  { physical, logical }: Purpose,
): Promise<Finding[]> {
  return lookInto('databases', signal, async () => {
    const { databases, closed, forbidden } = await askDatabases(server, await connection(), signal)
    const role = quoteIdentifier(server.user)
    return [
      ...(physical ? judgeUnlogged(databases, closed) : []),
      ...(logical ? judgeDumpRights(databases, forbidden, { role, version }) : []),
      ...judgePrepared(await askPrepared(server)),
    ]
  })
}

async function lookAtArchiving(
  server: Server,
  facts: ServerFacts,
  isHere: boolean,
  question: LookOverQuestion,
  purpose: Purpose,
): Promise<Finding[]> {
  const { config, signal } = question
  return await lookInto('archiving', signal, async () => {
    const asked = await askArchiving(server, config.wal.receive.slot)
    const waiting = await waitingSegments(question, isHere ? facts.dataDirectory : undefined, [])
    const isCalled = asked.archiveMode !== 'off' && asked.archiveLibrary === ''
    return [
      ...judgeArchiving({ ...asked, waiting }, purpose.archived),
      ...(isCalled ? await checkArchiveCommand(facts.archiveCommand, question, isHere) : []),
    ]
  })
}

async function waitingSegments(
  { connect, config, now, signal }: LookOverQuestion,
  dataDirectory: string | undefined,
  stores: Stores,
): Promise<ArchivingFacts['waiting']> {
  const { waiting } = await askServer({
    connect,
    dataDirectory,
    systemIdentifier: stores.flatMap(({ catalog }) => catalog?.systemIdentifier ?? [])[0],
    walSegmentBytes: 16 * 1024 * 1024,
    slot: config.wal.receive.slot,
    now: now(),
    signal,
  })
  return waiting ? { segments: waiting.segments, oldestSeconds: waiting.oldest?.ageSeconds ?? 0 } : undefined
}

async function repositorySpace(
  stores: Stores,
  dataBytes: number | undefined,
  { signal }: LookOverQuestion,
): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const { repository, catalog } of stores) {
    const { name, storage } = repository
    if (!catalog) continue
    const look = async () =>
      judgeRepositorySpace(spaceFacts(name, await storage.freeBytes(), catalog, dataBytes))
    findings.push(...softened(await lookInto(`space in "${name}"`, signal, look), repository))
  }
  return findings
}

function walSpace(
  dataDirectory: string,
  segmentBytes: number,
  stores: Stores,
  { config, signal }: LookOverQuestion,
  bounds: { maxWalBytes: number | undefined; slotBytes: number | undefined },
): Promise<Finding[]> {
  return lookInto('space for pg_wal', signal, async () =>
    judgeWalDisk({
      ...(await askWalDisk(dataDirectory, segmentBytes)),
      segmentBytes,
      bytesPerSecond: archivedRate(stores.flatMap(({ catalog }) => catalog ?? [])),
      ...bounds,
      queueBytes: config.wal.queueMax,
    }),
  )
}

async function maxWalBytes(server: Server): Promise<number | undefined> {
  const { megabytes } = await server.one<{ megabytes: number }>(
    `SELECT setting::float8 AS megabytes FROM pg_settings WHERE name = 'max_wal_size'`,
  )
  return megabytes * 1024 * 1024
}
