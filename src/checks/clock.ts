import type { Server } from '../postgres/server.ts'
import { judgeClock } from '../storage/probe.ts'
import type { Finding } from './finding.ts'

/** The server's clock stands in backups, and is what the time of a recovery target is compared with. */
export async function checkServerClock(server: Server): Promise<Finding> {
  const before = Date.now()
  const { ms } = await server.one<{ ms: string }>(
    'SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint::text AS ms',
  )
  const now = (before + Date.now()) / 2
  return {
    subject: 'clock',
    ...judgeClock(Number(ms) - now, "the server's", 'times of recovery are meant by it'),
  }
}
