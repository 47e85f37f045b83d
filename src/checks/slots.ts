import { formatBytes } from '../cli/units.ts'
import type { Server } from '../postgres/server.ts'
import { type Finding, fail, pass, warn } from './finding.ts'

export interface SlotFacts {
  name: string
  active: boolean
  /** How far behind it is, all of which pg_wal keeps; undefined where it keeps none. */
  heldBytes: number | undefined
  /** Whether the server has given it up, since it held more than max_slot_wal_keep_size. */
  isLost: boolean
}

/** @returns also max_slot_wal_keep_size in bytes; undefined where slots may keep any amount */
export async function askSlots(server: Server): Promise<{ slots: SlotFacts[]; bound: number | undefined }> {
  const { version, megabytes } = await server.one<{ version: number; megabytes: number | null }>(
    `SELECT current_setting('server_version_num')::int AS version,
            (SELECT setting::float8 FROM pg_settings WHERE name = 'max_slot_wal_keep_size') AS megabytes`,
  )
  const lost = version >= 130_000 ? `wal_status = 'lost'` : 'false'
  const rows = await server.query<{
    name: string
    active: boolean
    held: string | null
    lost: boolean | null
  }>(
    `SELECT slot_name AS name, active, ${lost} AS lost,
            pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
                            restart_lsn)::bigint::text AS held
       FROM pg_replication_slots WHERE NOT temporary ORDER BY slot_name`,
  )
  const slots = rows.map(({ name, active, held, lost: isLost }) => ({
    name,
    active,
    heldBytes: held === null ? undefined : Math.max(0, Number(held)),
    isLost: isLost ?? false,
  }))
  return { slots, bound: megabytes === null || megabytes < 0 ? undefined : megabytes * 1024 * 1024 }
}

/**
 * Slots that nobody receives through keep WAL until the disk is full.
 * @param own that of `wal-receive`
 * @param bound max_slot_wal_keep_size in bytes; undefined where there is none
 */
export function judgeSlots(slots: readonly SlotFacts[], own: string, bound: number | undefined): Finding[] {
  const findings = slots.flatMap((slot) => judgeSlot(slot, slot.name === own, bound))
  return findings.length > 0 ? findings : [pass('slots', 'no replication slot holds WAL back')]
}

function judgeSlot(
  { name, active, heldBytes, isLost }: SlotFacts,
  isOwn: boolean,
  bound: number | undefined,
): Finding[] {
  const drop = isOwn ? 'pgrecall wal-receive --drop-slot' : `SELECT pg_drop_replication_slot('${name}');`
  if (isLost)
    return [
      (isOwn ? fail : warn)(
        'slots',
        `the server has given up slot "${name}", which held more WAL than max_slot_wal_keep_size: what it lacks is gone`,
        isOwn ? `${drop}, start wal-receive again, and take a backup` : `${drop} and set up anew who uses it`,
      ),
    ]
  if (active || heldBytes === undefined) return []
  const limit = bound === undefined ? 'until its disk is full' : `up to ${formatBytes(bound)}`
  return [
    warn(
      'slots',
      `nobody receives through slot "${name}", for which pg_wal keeps ${formatBytes(heldBytes)} and all that comes, ${limit}`,
      isOwn
        ? `start pgrecall wal-receive; or give it up: ${drop}`
        : `start who uses it; or give it up: ${drop}`,
    ),
  ]
}
