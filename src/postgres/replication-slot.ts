import pg from 'pg'
import { PgrecallError, reasonOf } from '../errors.ts'
import { type Lsn, lsn } from './lsn.ts'
import { parseHistory, type TimelineHistory } from './timeline-history.ts'

/** What a server says of itself to whoever receives its WAL. */
export interface SenderFacts {
  systemIdentifier: string
  timeline: number
  /** Up to where its WAL is on disk. */
  position: Lsn
  /** `150018` for 15.18. */
  version: number
  walLevel: string
  walSegmentBytes: number
  synchronousStandbyNames: string
}

/**
 * Asks a server over a replication session, so that the role needs no right but REPLICATION, and no database.
 * @param client a session of `connectReplication`
 * @see https://www.postgresql.org/docs/current/protocol-replication.html
 */
export async function readSenderFacts(client: pg.Client): Promise<SenderFacts> {
  const [system] = (await client.query('IDENTIFY_SYSTEM')).rows
  return {
    systemIdentifier: system.systemid,
    timeline: Number(system.timeline),
    position: lsn(system.xlogpos),
    version: Number(await show(client, 'server_version_num')),
    walLevel: await show(client, 'wal_level'),
    walSegmentBytes: bytesOf(await show(client, 'wal_segment_size')),
    synchronousStandbyNames: await show(client, 'synchronous_standby_names'),
  }
}

/**
 * Makes a physical replication slot that keeps WAL from now on: the server removes none before it was received.
 * @returns false when there is one already
 * @throws PgrecallError `connection`, with what has to be changed on the server
 */
export async function makeSlot(client: pg.Client, name: string): Promise<boolean> {
  try {
    await client.query(`CREATE_REPLICATION_SLOT ${name} PHYSICAL RESERVE_WAL`)
    return true
  } catch (error) {
    if (codeOf(error) === DUPLICATE_OBJECT) return false
    throw new PgrecallError(
      'connection',
      `the replication slot "${name}" could not be made: ${reasonOf(error)}`,
      {
        hint:
          codeOf(error) === CONFIGURATION_LIMIT_EXCEEDED
            ? 'raise max_replication_slots (and restart the server), or drop one that nobody uses; see pg_replication_slots'
            : 'the role needs REPLICATION, and the server wal_level = replica and max_replication_slots',
        cause: error,
      },
    )
  }
}

/**
 * Whether the server has given a slot up: it grew over max_slot_wal_keep_size, and keeps no WAL any more. Servers before
 * 15 do not tell it here; there, the WAL that is asked for is missing.
 */
export async function isSlotLost(client: pg.Client, name: string, version: number): Promise<boolean> {
  if (version < 150_000) return false
  const [slot] = (await client.query(`READ_REPLICATION_SLOT ${name}`)).rows
  return slot?.slot_type === 'physical' && slot.restart_lsn === null
}

/**
 * Removes a replication slot; from then on the server keeps no WAL for it.
 * @returns false when there is none
 * @throws PgrecallError `busy` while somebody receives through it
 */
export async function dropSlot(client: pg.Client, name: string): Promise<boolean> {
  try {
    await client.query(`DROP_REPLICATION_SLOT ${name}`)
    return true
  } catch (error) {
    if (codeOf(error) === UNDEFINED_OBJECT) return false
    const isInUse = codeOf(error) === OBJECT_IN_USE
    throw new PgrecallError(
      isInUse ? 'busy' : 'connection',
      `the replication slot "${name}" could not be removed: ${reasonOf(error)}`,
      {
        hint: isInUse ? 'stop the wal-receive that uses it first' : 'the role needs REPLICATION',
        cause: error,
      },
    )
  }
}

/** The history of the timeline that a server is on. @param timeline the server's own */
export async function readServerHistory(client: pg.Client, timeline: number): Promise<TimelineHistory> {
  if (timeline === 1) return parseHistory('', 1)
  const [row] = (await client.query(`TIMELINE_HISTORY ${timeline}`)).rows
  return parseHistory(row.content.toString(), timeline)
}

const DUPLICATE_OBJECT = '42710'
const UNDEFINED_OBJECT = '42704'
const OBJECT_IN_USE = '55006'
const CONFIGURATION_LIMIT_EXCEEDED = '53400'

const codeOf = (error: unknown) => (error instanceof pg.DatabaseError ? error.code : undefined)

async function show(client: pg.Client, setting: string): Promise<string> {
  return (await client.query(`SHOW ${setting}`)).rows[0][setting]
}

/** `16MB`, as SHOW writes sizes. */
function bytesOf(text: string): number {
  const [, number, unit] = /^(\d+)([kMG])B$/.exec(text) ?? []
  return Number(number) * { k: 2 ** 10, M: 2 ** 20, G: 2 ** 30 }[unit as 'k' | 'M' | 'G']
}
