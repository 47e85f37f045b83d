import { formatAge } from '../cli/units.ts'
import type { Server } from '../postgres/server.ts'
import { type Finding, pass, warn } from './finding.ts'

export interface PreparedTransaction {
  gid: string
  database: string
  ageSeconds: number
}

const FORGOTTEN_SECONDS = 24 * 3600

export function askPrepared(server: Server): Promise<PreparedTransaction[]> {
  return server.query(
    `SELECT gid, database, extract(epoch FROM clock_timestamp() - prepared)::float8 AS "ageSeconds"
       FROM pg_prepared_xacts ORDER BY prepared`,
  )
}

/** They come back with a restore, and hold their locks and all old rows in the meantime, there as here. */
export function judgePrepared(prepared: readonly PreparedTransaction[]): Finding[] {
  const forgotten = prepared.filter(({ ageSeconds }) => ageSeconds > FORGOTTEN_SECONDS)
  if (forgotten.length === 0) return [pass('prepared transactions', 'no prepared transaction was forgotten')]
  return forgotten.map(({ gid, database, ageSeconds }) =>
    warn(
      'prepared transactions',
      `transaction '${gid}' in "${database}" has been prepared for ${formatAge(1000 * ageSeconds)}: a restored server has it too, with all its locks`,
      `in "${database}": COMMIT PREPARED '${gid.replaceAll("'", "''")}'; or ROLLBACK PREPARED`,
    ),
  )
}
