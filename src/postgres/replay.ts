import { setTimeout as wait } from 'node:timers/promises'
import { PgrecallError } from '../errors.ts'
import { quoteIdentifier, type Server } from './server.ts'

export async function isReplayPaused(server: Server): Promise<boolean> {
  return (await server.one<{ paused: boolean }>('SELECT pg_is_wal_replay_paused() AS paused')).paused
}

/**
 * Pauses a standby's replay, and waits until it stands still. The pause outlives the session.
 * @see https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-RECOVERY-CONTROL
 */
export async function pauseReplay(server: Server, version: number, signal: AbortSignal): Promise<void> {
  await server.query('SELECT pg_wal_replay_pause()')
  // Before 14 the server does not tell when it has come to a stand; it looks at the request before each record.
  while (version >= 140_000) {
    const { state } = await server.one<{ state: string }>('SELECT pg_get_wal_replay_pause_state() AS state')
    if (state === 'paused') return
    await wait(20, undefined, { signal })
  }
}

export async function resumeReplay(server: Server): Promise<void> {
  await server.query('SELECT pg_wal_replay_resume()')
}

/** @throws PgrecallError `refused` when the role may not pause the replay, or not let it go on again */
export async function requireReplayRights(server: Server): Promise<void> {
  const { allowed } = await server.one<{ allowed: boolean }>(
    `SELECT has_function_privilege('pg_wal_replay_pause()', 'execute')
        AND has_function_privilege('pg_wal_replay_resume()', 'execute') AS allowed`,
  )
  if (allowed) return
  const role = quoteIdentifier(server.user)
  throw new PgrecallError(
    'refused',
    `the role ${role} may not pause the replay of this standby and let it go on`,
    {
      hint: `on the primary, as a superuser: GRANT EXECUTE ON FUNCTION pg_wal_replay_pause(), pg_wal_replay_resume() TO ${role}`,
    },
  )
}
