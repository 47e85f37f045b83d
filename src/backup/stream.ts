import { statWalFile } from '../catalog/wal-object.ts'
import { PgrecallError } from '../errors.ts'
import { type BackupEnds, serversMoment } from '../postgres/low-level-backup.ts'
import type { ConnectionOptions, Server } from '../postgres/server.ts'
import { historyName, lastSegmentNumber, segmentName } from '../postgres/wal-file.ts'
import { storeControlShard } from './closing-objects.ts'
import { judgePages } from './damage.ts'
import { arrivalOfWal, lastBaseShard } from './low-level-story.ts'
import type { BackupMethod, BackupRun } from './method.ts'
import { checkStreaming } from './preflight.ts'
import { shardBytesFor } from './shard.ts'
import { chooseSource, copyStream } from './stream-copy.ts'

const MOST_KILOBYTES = 1024 * 1024

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

    async check(request) {
      await using server = await connect()
      return await checkStreaming(server, connection, request)
    },

    async take(run) {
      const { request, events, id } = run
      const { facts, total, time } = await askBefore(connect)
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
        shardBytes: request.shardBytes ?? shardBytesFor(total ?? 0),
        totalBytes: total,
        archiveTimeoutMs: request.archiveTimeoutMs,
        task: 'Receiving',
        events,
        signal: run.signal,
      })
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
  return { facts, total: await server.dataBytes(), time }
}

async function askAfter(connect: () => Promise<Server>, version: number) {
  await using server = await connect()
  return await serversMoment(server, version)
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
