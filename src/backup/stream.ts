import { statWalFile } from '../catalog/wal-object.ts'
import { PgrecallError } from '../errors.ts'
import type { BackupLabel } from '../postgres/backup-label.ts'
import { type BackupEnds, serversMoment } from '../postgres/low-level-backup.ts'
import { formatLsn } from '../postgres/lsn.ts'
import { readPlace } from '../postgres/replication.ts'
import type { ClusterFacts, ConnectionOptions, Server } from '../postgres/server.ts'
import { historyName, lastSegmentNumber, segmentName } from '../postgres/wal-file.ts'
import { storeControlShard } from './closing-objects.ts'
import { judgePages } from './damage.ts'
import { arrivalOfWal, lastBaseShard } from './low-level-story.ts'
import type { BackupMethod, BackupRun, ParentBackup } from './method.ts'
import { requireUnmoved } from './moved-databases.ts'
import { checkStreaming } from './preflight.ts'
import { shardBytesFor } from './shard.ts'
import { chooseSource, copyStream, type StreamedIncrement } from './stream-copy.ts'
import { faultOfIncrement } from './stream-parent.ts'
import { UnfitParent } from './unfit-parent.ts'

const MOST_KILOBYTES = 1024 * 1024
/** The first version that sends incremental base backups. */
const SENDS_INCREMENTS = 170_000

/**
 * Why a server sends no incremental base backups, as a part of a sentence; undefined where it does. Whether it can send
 * one upon a certain backup only its summaries tell.
 */
export function canStreamIncrements({ version }: Pick<ClusterFacts, 'version'>): string | undefined {
  if (version >= SENDS_INCREMENTS) return undefined
  return `PostgreSQL ${Math.floor(version / 10_000)} streams full backups only (17 and later send increments)`
}

/**
 * `stream`: the server sends its files over the replication protocol; `pg_basebackup` receives them, or, where it cannot,
 * we do. From any host, and from a standby too.
 * @param connect makes a session to ask in; none is kept while the server sends, which may take hours
 * @param connection where the server is; the same user needs the right to replicate
 * @param env what libpq's programs are told by their environment
 * @see https://www.postgresql.org/docs/current/protocol-replication.html
 */
export function streamMethod(
  connect: () => Promise<Server>,
  connection: ConnectionOptions,
  env: Record<string, string | undefined>,
): BackupMethod {
  return {
    name: 'stream',
    lost: undefined,
    resumes: false,
    fullOnly: canStreamIncrements,

    async place() {
      const { position, ...place } = await readPlace(connection)
      return { ...place, lsn: position }
    },

    async cannotBuildUpon(parent) {
      await using server = await connect()
      return await faultOfIncrement(server, parent)
    },

    async check(request) {
      await using server = await connect()
      return await checkStreaming(server, connection, request)
    },

    async take(run) {
      const { request, events, id } = run
      const { facts, total, time, databases } = await askBefore(connect)
      const source = await chooseSource(facts, env)
      events.emit('step', {
        text: `Starting backup ${id} of PostgreSQL ${facts.versionText.split(' ')[0]}, by ${source.kind === 'program' ? 'pg_basebackup' : 'the replication protocol'}`,
      })
      const streamed = await copyStream({
        source,
        asked: {
          connection,
          serverVersion: facts.version,
          label: request.label || `pgrecall ${id}`,
          checkpoint: request.checkpoint,
          wal: request.standalone,
          maxRateKiB: rateFor(request.maxRate),
        },
        store: run.store,
        codec: request.codec,
        pages: facts.dataChecksums
          ? {
              pageBytes: facts.blockBytes,
              blocksPerSegment: facts.relationSegmentBlocks,
              startLsn: undefined,
            }
          : undefined,
        increment: run.parent && incrementUpon(run.parent, facts, connect),
        shardBytes: request.shardBytes ?? shardBytesFor(total ?? 0),
        totalBytes: run.parent ? undefined : total,
        archiveTimeoutMs: request.archiveTimeoutMs,
        task: 'Receiving',
        events,
        signal: run.signal,
      })
      if (run.parent) requireParent(streamed.start, run.parent)
      requireOneTimeline(streamed.start.timeline, streamed.stop.timeline)
      const after = await askAfter(connect, facts.version)
      const { label, start, stop, control, owner } = streamed
      const last = lastSegmentNumber(stop.lsn, facts.walSegmentBytes)
      const ends: BackupEnds = {
        timeline: start.timeline,
        start: { lsn: start.start, walFile: start.walFile, time },
        stop: {
          lsn: stop.lsn,
          walFile: segmentName(start.timeline, last, facts.walSegmentBytes),
          time: after.time,
        },
        xmin: after.xmin,
        fromStandby: start.fromStandby,
        label,
      }
      const judged = judgePages(streamed.troubles, stop.lsn)
      const isData = ({ group }: { group: string }) => group !== 'wal'
      const data = streamed.shards.filter(isData)
      const controlShard = await storeControlShard(run, { label, control, owner }, lastBaseShard(data))
      return {
        facts,
        owner,
        ends,
        shards: [...data, controlShard, ...streamed.shards.filter((shard) => !isData(shard))],
        damaged: facts.dataChecksums ? judged.damaged : undefined,
        databases: requireUnmoved(databases, after.databases),
        ...(run.parent && {
          increment: { source: 'server' as const, changedBlocks: streamed.changedBlocks },
        }),
        warnings: [...streamed.warnings, ...judged.warnings, ...(await missingHistory(run, start.timeline))],
      }
    },

    async awaitWal(run, taken) {
      await using server = await connect()
      await arrivalOfWal(run, taken, server)
    },
  }
}

async function askBefore(connect: () => Promise<Server>) {
  await using server = await connect()
  const facts = await server.facts()
  const { time } = await serversMoment(server, facts.version)
  return { facts, total: await server.dataBytes(), time, databases: await server.databases() }
}

async function askAfter(connect: () => Promise<Server>, version: number) {
  await using server = await connect()
  return { ...(await serversMoment(server, version)), databases: await server.databases() }
}

/** Of an incremental backup: how it is asked for, and what has to hold of it. */
function incrementUpon(
  parent: ParentBackup,
  facts: ClusterFacts,
  connect: () => Promise<Server>,
): StreamedIncrement {
  const { blockBytes, relationSegmentBlocks } = facts
  return {
    blockBytes,
    relationSegmentBlocks,
    manifest: parent.manifest,
    // Summaries are written at checkpoints: those up to this one were not there when the parent was chosen.
    async requireFit(start) {
      await using server = await connect()
      const fault = await faultOfIncrement(server, parent, start)
      if (fault !== undefined) throw new UnfitParent(fault)
    },
  }
}

/** Of the chain's links only the labels say how they belong together. */
function requireParent({ incrementalFrom }: BackupLabel, { record }: ParentBackup): void {
  const { lsn: from, timeline } = incrementalFrom ?? {}
  if (from !== undefined && formatLsn(from) === record.start.lsn && timeline === record.timeline) return
  const what = from === undefined ? 'a whole backup' : `one upon ${formatLsn(from)} on timeline ${timeline}`
  throw new PgrecallError(
    'failed',
    `the server has sent ${what}, and not one upon backup ${record.id}, which begins at ${record.start.lsn}`,
    { hint: 'take a whole backup with --type full' },
  )
}

/** In kilobytes; the server takes no more than this many, which is no limit then. */
function rateFor(maxRate: number | undefined): number | undefined {
  const kilobytes = maxRate === undefined ? undefined : Math.floor(maxRate / 1024)
  return kilobytes === undefined || kilobytes > MOST_KILOBYTES ? undefined : kilobytes
}

/** A standby that follows its primary's promotion lives on, but its backup would need WAL of two timelines. */
function requireOneTimeline(start: number, stop: number): void {
  if (start === stop) return
  throw new PgrecallError(
    'failed',
    `the server went from timeline ${start} to ${stop} during the backup, which voids it`,
    { hint: 'take the backup again' },
  )
}

/** A timeline's history is not part of a base backup, and may have been archived before pgrecall was set up. */
async function missingHistory({ store, request }: BackupRun, timeline: number): Promise<string[]> {
  const name = historyName(timeline)
  if (timeline === 1 || request.standalone) return []
  const stored = await store.each((repository) => statWalFile(repository, request.cluster, name))
  return Object.entries(stored).flatMap(([repository, file]) =>
    file === undefined
      ? [
          `${name} is not in the archive of repository "${repository}", and no recovery on timeline ${timeline} begins without it; on the server, run: pgrecall wal-push pg_wal/${name}`,
        ]
      : [],
  )
}
