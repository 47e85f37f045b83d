import { setTimeout as wait } from 'node:timers/promises'
import type { Repository } from '../catalog/repository.ts'
import { statWalFile } from '../catalog/wal-object.ts'
import { segmentNumberOf } from '../catalog/wal-ranges.ts'
import { PgrecallError } from '../errors.ts'
import type { Events } from '../events.ts'
import type { Server } from '../postgres/server.ts'
import { segmentName } from '../postgres/wal-file.ts'

/** A segment arrives a moment after the backup's end, or after a while. */
const SHORTEST_PAUSE_MS = 20
const LONGEST_PAUSE_MS = 500

export interface WaitRequest {
  cluster: string
  repository: Repository
  /** The first and the last segment that the backup needs; both on `timeline`. */
  first: string
  last: string
  timeline: number
  segmentBytes: number
  timeoutMs: number
  /** A standby cannot end a segment: its primary has to, and archives it. */
  fromStandby: boolean
}

/**
 * Waits until every segment from the start to the stop of a backup is in the repository: that the server's archiver
 * was content with some command proves nothing.
 * @throws PgrecallError `failed` when they do not arrive, with what the server knows of its archiver
 */
export async function waitForWal(
  request: WaitRequest,
  context: { server: Server; events: Events; signal: AbortSignal },
): Promise<void> {
  const number = (name: string) => segmentNumberOf(name, request.segmentBytes)
  const last = number(request.last)
  const begun = performance.now()
  let progressAt = begun
  let pauseMs = SHORTEST_PAUSE_MS
  for (let next = number(request.first); next <= last; ) {
    context.signal.throwIfAborted()
    const name = segmentName(request.timeline, next, request.segmentBytes)
    if (await statWalFile(request.repository, request.cluster, name)) {
      next++
      progressAt = performance.now()
      continue
    }
    if (performance.now() - progressAt > request.timeoutMs)
      throw await notArrived(name, request, context.server)
    await wait(pauseMs, undefined, { signal: context.signal })
    pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 2)
  }
}

async function notArrived(name: string, request: WaitRequest, server: Server): Promise<PgrecallError> {
  const archiver = await server
    .one<{ failed: string | null; at: string | null; count: string }>(
      'SELECT last_failed_wal AS failed, last_failed_time::text AS at, failed_count::text AS count FROM pg_stat_archiver',
    )
    .catch(() => undefined)
  const failing = archiver?.failed
    ? `; the server's archiver last failed at ${archiver.at} with ${archiver.failed}`
    : ''
  return new PgrecallError(
    'failed',
    `WAL segment ${name} did not arrive in repository "${request.repository.name}" within ${Math.round(request.timeoutMs / 1000)} s${failing}`,
    {
      hint: request.fromStandby
        ? 'the primary has to end the segment and archive it: set archive_timeout there, call pg_switch_wal() after the backup, or take it with --standalone'
        : 'run "pgrecall check" and look into the server\'s log for messages of archive_command; a backup does not count without its WAL',
    },
  )
}
