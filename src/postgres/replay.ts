import { setTimeout as wait } from 'node:timers/promises'
import { PgrecallError, systemCode } from '../errors.ts'
import { quoteIdentifier, type Server } from './server.ts'

/**
 * Pauses a standby's replay, and waits until it stands still.
 * @returns false when it was paused already, so that it is not ours to resume
 * @throws PgrecallError `refused` when the role may not
 * @see https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-RECOVERY-CONTROL
 */
export async function pauseReplay(server: Server, version: number, signal: AbortSignal): Promise<boolean> {
  const { paused } = await server.one<{ paused: boolean }>('SELECT pg_is_wal_replay_paused() AS paused')
  if (paused) return false
  await server.query('SELECT pg_wal_replay_pause()').catch((error) => {
    if (systemCode(error) !== '42501') throw error
    const role = quoteIdentifier(server.user)
    throw new PgrecallError('refused', `the role ${role} may not pause the replay of this standby`, {
      hint: `on the primary, as a superuser: GRANT EXECUTE ON FUNCTION pg_wal_replay_pause(), pg_wal_replay_resume() TO ${role}`,
      cause: error,
    })
  })
  // Before 14 the server does not tell when it has come to a stand; it looks at the request before each record.
  while (version >= 140_000) {
    const { state } = await server.one<{ state: string }>('SELECT pg_get_wal_replay_pause_state() AS state')
    if (state === 'paused') break
    await wait(20, undefined, { signal }).catch(async (error) => {
      await resumeReplay(server)
      throw error
    })
  }
  return true
}

export async function resumeReplay(server: Server): Promise<void> {
  await server.query('SELECT pg_wal_replay_resume()')
}
