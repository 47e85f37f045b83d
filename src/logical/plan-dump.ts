import { type Codec, formatCodec } from '../archive/codec.ts'
import { PgrecallError, systemCode } from '../errors.ts'
import { findProgram, type Program } from '../postgres/client-programs.ts'
import { type DumpableDatabase, dumpableDatabases, dumpSource, tablesBytes } from '../postgres/dumpable.ts'
import { inDatabase } from '../postgres/in-database.ts'
import { canCompress } from '../postgres/pg-dump.ts'
import type { Server } from '../postgres/server.ts'
import { chooseDatabases } from './choose-databases.ts'
import { isPartial } from './dump-selection.ts'
import type { LogicalRequest } from './logical-request.ts'
import type { DumpPrograms, LogicalPlan, LogicalSource } from './logical-run.ts'
import { freeRoom, requireRoom } from './staging.ts'

/**
 * Asks the server what there is, and finds what dumps it; changes nothing.
 * @param server in any database
 * @param source where it is, and PostgreSQL's programs
 * @throws PgrecallError `refused` where a program or the room to stage a dump is missing, `absent` or `refused` for a database
 * that cannot be dumped
 */
export async function planDump(
  request: LogicalRequest,
  server: Server,
  source: LogicalSource,
): Promise<LogicalPlan> {
  const { env } = source
  const facts = await dumpSource(server)
  const all = await dumpableDatabases(server, facts.majorVersion)
  const { databases, warnings } = chooseDatabases(all, request.databases)
  const programs = await findDumpPrograms(facts.majorVersion, env)
  await requireRoomForEach(request, databases, source)
  const warned =
    facts.isSuperuser || !(request.globals || request.whole) ? [] : [withoutPasswordsText(server.user)]
  return {
    server: facts,
    programs,
    databases,
    ...(await whoCompresses(request, programs.dump, env)),
    warnings: [...warnings, ...warned],
  }
}

/** One at a time is staged. How much a selection is of a database nobody knows before. */
async function requireRoomForEach(
  { staging, selection }: LogicalRequest,
  databases: readonly DumpableDatabase[],
  source: LogicalSource,
): Promise<void> {
  if (staging === undefined) return
  const free = await freeRoom(staging)
  if (isPartial(selection) || selection.only === 'schema' || selection.excludeTableData) return
  for (const database of databases.filter(({ bytes }) => bytes > free))
    await requireRoom(staging, await dumpBytes(database, source), `the dump of "${database.name}"`)
}

/** About as much as the tables, as a dump has no indexes; where somebody holds one of them up, as all of the database. */
async function dumpBytes({ name, bytes }: DumpableDatabase, source: LogicalSource): Promise<number> {
  await using server = await source.connect(inDatabase(source.connection, name))
  await server.query(`SET lock_timeout = '2s'`)
  return await tablesBytes(server).catch((error) => {
    if (systemCode(error) === LOCK_NOT_AVAILABLE) return bytes
    throw error
  })
}

/** @see https://www.postgresql.org/docs/current/errcodes-appendix.html */
const LOCK_NOT_AVAILABLE = '55P03'

const withoutPasswordsText = (role: string) =>
  `"${role}" is no superuser, so the passwords of roles are not in this backup`

/** From 16 `pg_dump` can compress as we would, so that its archives can be read in parts. A script it does not compress. */
async function whoCompresses(
  { codec, whole }: LogicalRequest,
  program: Program,
  env: LogicalSource['env'],
): Promise<Pick<LogicalPlan, 'compress' | 'compressedBy'>> {
  const compress = formatCodec(codec)
  const canIt = !whole && (await canItself(codec, program, compress, env))
  return canIt ? { compress, compressedBy: 'pg_dump' } : { compress: 'none', compressedBy: 'pgrecall' }
}

async function canItself(
  { method }: Codec,
  program: Program,
  compress: string,
  env: LogicalSource['env'],
): Promise<boolean> {
  return method === 'none' || (program.majorVersion >= 16 && (await canCompress(program, env, compress)))
}

async function findDumpPrograms(majorVersion: number, env: LogicalSource['env']): Promise<DumpPrograms> {
  const find = async (name: string) => {
    const program = await findProgram(name, majorVersion, env)
    if (program) return program
    throw new PgrecallError('refused', `no ${name} of PostgreSQL ${majorVersion} or later was found`, {
      hint: `install PostgreSQL's client programs (postgresql-client-${majorVersion}), or put their folder on PATH`,
    })
  }
  return { dump: await find('pg_dump'), dumpall: await find('pg_dumpall'), restore: await find('pg_restore') }
}
