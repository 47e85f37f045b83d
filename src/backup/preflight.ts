import { readFile, realpath } from 'node:fs/promises'
import { join } from 'node:path'
import type { BackupSummary } from '../catalog/backup-record.ts'
import { PgrecallError, reasonOf, systemCode } from '../errors.ts'
import { type ControlFile, readControlFile } from '../postgres/pg-control.ts'
import { identifySystem } from '../postgres/replication.ts'
import { type ConnectionOptions, quoteIdentifier, type Server, type ServerFacts } from '../postgres/server.ts'
import type { Storage } from '../storage/storage.ts'
import { CONTROL_FILE } from './scan.ts'

export interface PreflightRequest {
  server: Server
  /** The data directory that the configuration names, if any. */
  expectedDataDirectory: string | undefined
  standalone: boolean
  /** As in BackupRequest. */
  receiveSlot: string
}

/**
 * Everything that would make a `files` backup fail later, found before anything is copied.
 * @returns the facts of the server, and warnings
 * @throws PgrecallError `refused` with the reason and what to do
 */
export async function checkServer(
  request: PreflightRequest,
): Promise<{ facts: ServerFacts; warnings: string[] }> {
  const { server } = request
  const facts = await server.facts()
  await requireBackupRights(server, facts)
  await requireSameHost(facts, request.expectedDataDirectory)
  if (request.standalone) return { facts, warnings: await checkOwnWal(server, facts) }
  // What a standby's settings say of archiving says nothing about its primary, which does it.
  return { facts, warnings: facts.inRecovery ? [] : await checkArchiving(server, facts, request.receiveSlot) }
}

/** Everything that would make a `stream` backup fail later, as far as SQL tells. */
export async function checkStreaming(
  server: Server,
  connection: ConnectionOptions,
  { standalone, receiveSlot }: { standalone: boolean; receiveSlot: string },
): Promise<{ facts: ServerFacts; warnings: string[]; bytes: number }> {
  const facts = await server.facts()
  requireWalLevel(facts, 'a base backup')
  await requireReplication(server, 'take base backups')
  // pg_hba.conf has lines of its own for replication.
  const { systemIdentifier } = await identifySystem(connection)
  if (systemIdentifier !== facts.systemIdentifier) {
    throw new PgrecallError(
      'refused',
      'the replication connection leads to another cluster than the ordinary one',
      {
        hint: 'is there a connection pool or a load balancer in between? Connect to the server itself',
      },
    )
  }
  const warnings = standalone || facts.inRecovery ? [] : await checkArchiving(server, facts, receiveSlot)
  return { facts, warnings, bytes: (await server.dataBytes()) ?? 0 }
}

async function requireBackupRights(server: Server, facts: ServerFacts): Promise<void> {
  const [start, stop] =
    facts.version >= 150_000
      ? ['pg_backup_start(text, boolean)', 'pg_backup_stop(boolean)']
      : ['pg_start_backup(text, boolean, boolean)', 'pg_stop_backup(boolean, boolean)']
  const { allowed } = await server.one<{ allowed: boolean }>(
    `SELECT has_function_privilege($1, 'execute') AND has_function_privilege($2, 'execute') AS allowed`,
    [start, stop],
  )
  if (allowed) return
  const role = quoteIdentifier(server.user)
  throw new PgrecallError('refused', `the role ${role} may not take backups`, {
    hint: `as a superuser, in the database that pgrecall connects to: GRANT EXECUTE ON FUNCTION ${start}, ${stop} TO ${role}`,
  })
}

/** The files that are copied must be those of the server that was told to start a backup. */
async function requireSameHost(facts: ServerFacts, expected: string | undefined): Promise<void> {
  const control = await readStableControlFile(facts.dataDirectory).catch((error) => {
    const code = systemCode(error)
    if (code === 'EACCES' || code === 'EPERM') {
      throw new PgrecallError(
        'refused',
        `cannot read the data directory ${facts.dataDirectory}: permission denied`,
        {
          hint: 'run as the user who owns it, usually postgres',
          cause: error,
        },
      )
    }
    if (error instanceof PgrecallError) throw error
    throw new PgrecallError(
      'refused',
      `the server's data directory ${facts.dataDirectory} is not on this host: ${reasonOf(error)}`,
      {
        hint: 'the files method runs on the database host itself',
        cause: error,
      },
    )
  })
  if (control.control.systemIdentifier !== facts.systemIdentifier) {
    throw new PgrecallError(
      'refused',
      `the folder ${facts.dataDirectory} on this host is another cluster than the server's`,
      {
        hint: 'the files method runs on the database host itself; is the connection a tunnel to another host?',
      },
    )
  }
  if (expected !== undefined && (await samePlace(expected, facts.dataDirectory)) === false) {
    throw new PgrecallError(
      'refused',
      `the server's data directory is ${facts.dataDirectory}, the configuration says ${expected}`,
      {
        hint: 'correct "dataDirectory" or "connection" in the configuration; one of them points to another cluster',
      },
    )
  }
}

async function samePlace(a: string, b: string): Promise<boolean> {
  const real = (path: string) => realpath(path).catch(() => path)
  return (await real(a)) === (await real(b))
}

/** Without an archive that works, the backup's own WAL would never arrive. */
async function checkArchiving(server: Server, facts: ServerFacts, receiveSlot: string): Promise<string[]> {
  const hint =
    'set archive_mode = on and archive_command = \'pgrecall wal-push "%p"\' (pgrecall init prints the lines), run "pgrecall wal-receive", or take a backup that carries its own WAL with --standalone'
  const refuse = (what: string, mend = hint) =>
    new PgrecallError('refused', `WAL is not being archived: ${what}`, { hint: mend })
  if (facts.walLevel === 'minimal')
    throw refuse(
      'wal_level is minimal',
      'set wal_level = replica and restart the server: without it, no backup of a running server can be recovered',
    )
  const { isReceived } = await server.one<{ isReceived: boolean }>(
    `SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1 AND active) AS "isReceived"`,
    [receiveSlot],
  )
  if (isReceived) return []
  if (facts.archiveMode === 'off') throw refuse('archive_mode is off')
  if (facts.archiveCommand === '' && facts.archiveLibrary === '') throw refuse('archive_command is empty')
  return facts.archiveCommand.includes('wal-push')
    ? []
    : [
        `archiving is not by "pgrecall wal-push" but by ${facts.archiveLibrary || programOf(facts.archiveCommand)}`,
      ]
}

/** The command's first word that is no assignment: the whole may hold a secret. */
function programOf(command: string): string {
  return command.split(/\s+/).find((word) => word !== '' && !word.includes('=')) ?? 'another command'
}

/** A standalone backup keeps its WAL by a temporary replication slot. */
async function checkOwnWal(server: Server, facts: ServerFacts): Promise<string[]> {
  requireWalLevel(facts, 'a standalone backup')
  const { free } = await server.one<{ free: number }>(
    `SELECT current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots)::int AS free`,
  )
  if (free <= 0) {
    throw new PgrecallError(
      'refused',
      'a standalone backup needs a free replication slot, and none is left',
      {
        hint: 'raise max_replication_slots, or drop a slot that is not used',
      },
    )
  }
  await requireReplication(server, 'make the slot of a standalone backup')
  return []
}

function requireWalLevel({ walLevel }: ServerFacts, what: string): void {
  if (walLevel !== 'minimal') return
  throw new PgrecallError('refused', `${what} needs wal_level = replica, the server has minimal`, {
    hint: 'set wal_level = replica and restart the server',
  })
}

async function requireReplication(server: Server, toDo: string): Promise<void> {
  const { allowed } = await server.one<{ allowed: boolean }>(
    'SELECT rolsuper OR rolreplication AS allowed FROM pg_roles WHERE rolname = current_user',
  )
  if (allowed) return
  const role = quoteIdentifier(server.user)
  throw new PgrecallError('refused', `the role ${role} may not ${toDo}`, {
    hint: `as a superuser: ALTER ROLE ${role} REPLICATION`,
  })
}

/**
 * Refuses a backup that will not fit: by the ratio of the last one, or an optimistic guess for the first.
 * @param dataBytes plain bytes that will be copied
 */
export async function requireSpace(
  storage: Storage,
  dataBytes: number,
  last: BackupSummary | undefined,
  compresses: boolean,
): Promise<void> {
  const free = await storage.freeBytes()
  if (free === undefined) return
  const ratio = last && last.dataBytes > 0 ? last.storedBytes / last.dataBytes : compresses ? 0.1 : 1
  const needed = Math.ceil(dataBytes * (compresses ? ratio : Math.max(ratio, 1)))
  if (needed <= free) return
  const mib = (bytes: number) => `${Math.ceil(bytes / 1024 / 1024)} MiB`
  throw new PgrecallError(
    'refused',
    `the repository ${storage.location} has ${mib(free)} free, the backup needs about ${mib(needed)}`,
    {
      hint: 'free some space, for example with "pgrecall retention", or use another repository',
    },
  )
}

/** `pg_control` as a whole: it is written in place, so one that was read while it changed is read again. */
export async function readStableControlFile(
  dataDirectory: string,
): Promise<{ bytes: Buffer; control: ControlFile }> {
  const path = join(dataDirectory, CONTROL_FILE)
  for (let attempt = 0; attempt < 20; attempt++) {
    const bytes = await readFile(path)
    const control = readControlFile(bytes)
    if (control) return { bytes, control }
  }
  throw new PgrecallError('damaged', `${path} does not fit its own checksum`, {
    hint: 'pg_controldata shows whether the file is damaged',
  })
}
