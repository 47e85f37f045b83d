import { type Codec, formatCodec } from '../archive/codec.ts'
import { PgrecallError } from '../errors.ts'
import { findProgram, type Program } from '../postgres/client-programs.ts'
import { type DumpableDatabase, dumpableDatabases, dumpSource } from '../postgres/dumpable.ts'
import { canCompress } from '../postgres/pg-dump.ts'
import type { Server } from '../postgres/server.ts'
import { chooseDatabases } from './choose-databases.ts'
import { isPartial } from './dump-selection.ts'
import type { LogicalRequest } from './logical-request.ts'
import type { DumpPrograms, LogicalPlan, LogicalSource } from './logical-run.ts'
import { requireRoom } from './staging.ts'

/**
 * Asks the server what there is, and finds what dumps it; changes nothing.
 * @param server in any database
 * @throws PgrecallError `refused` where a program or the room to stage a dump is missing, `absent` or `refused` for a database
 * that cannot be dumped
 */
export async function planDump(
  request: LogicalRequest,
  server: Server,
  { env }: LogicalSource,
): Promise<LogicalPlan> {
  const facts = await dumpSource(server)
  const all = await dumpableDatabases(server, facts.majorVersion)
  const { databases, warnings } = chooseDatabases(all, request.databases)
  const programs = await findDumpPrograms(facts.majorVersion, env)
  await requireRoomForLargest(request, databases)
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
async function requireRoomForLargest(
  { staging, selection }: LogicalRequest,
  databases: readonly DumpableDatabase[],
): Promise<void> {
  if (staging === undefined) return
  const largest = databases.reduce((one, other) => (other.bytes > one.bytes ? other : one))
  const isLess = isPartial(selection) || selection.only === 'schema' || selection.excludeTableData
  await requireRoom(staging, isLess ? 0 : largest.bytes, `the dump of "${largest.name}"`)
}

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
