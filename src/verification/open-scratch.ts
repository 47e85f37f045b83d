import { tmpdir } from 'node:os'
import type { LogicalRecord } from '../catalog/logical-record.ts'
import { PgrecallError } from '../errors.ts'
import { freeRoom, StagingFolder } from '../logical/staging.ts'
import { type Environment, findProgram, type Program } from '../postgres/client-programs.ts'
import { findServerPrograms, ScratchServer, type ServerPrograms } from '../postgres/scratch-server.ts'

/** What loads a backup on this host. */
export interface ScratchPlan {
  server: ServerPrograms
  /** Counts what was loaded. */
  dump: Program
}

/** A scratch server in its folder. Disposing ends it and removes the folder; so does the next one after SIGKILL. */
export interface Scratch extends AsyncDisposable {
  folder: string
  server: ScratchServer
  /** The environment of PostgreSQL's programs. */
  env: Environment
}

/** With the name of the socket behind it, the path of its folder must not be longer than the system has room for. */
const LONGEST_SOCKET_FOLDER = 85
const MIB = 1024 * 1024
/** A server without databases, and its WAL. */
const EMPTY_BYTES = 400 * MIB
/** How much larger a database may be than its dump, which is compressed and has no indexes; than a script, which is plain. */
const DUMP_FACTOR = 20
const SCRIPT_FACTOR = 4

/**
 * Finds what loads a backup here, and looks whether there is room; changes nothing.
 * @param place where the scratch server is to be
 * @throws PgrecallError `refused`
 */
export async function planScratch(
  record: LogicalRecord,
  place: string,
  env: Environment,
): Promise<ScratchPlan> {
  if (process.getuid?.() === 0) throw asRoot()
  const major = Math.floor(record.postgres.version / 10_000)
  // The archive is for servers of the version that its program has, and later ones; an older one mostly understands it too.
  const server =
    (await findServerPrograms(Math.max(major, record.dumpVersion), env)) ??
    (await findServerPrograms(major, env))
  if (!server) throw missing(`no server (initdb) of PostgreSQL ${major}`, `postgresql-${major}`)
  const least = Math.max(server.postgres.majorVersion, record.dumpVersion)
  const dump = await findProgram('pg_dump', least, env)
  if (!dump) throw missing(`no pg_dump of PostgreSQL ${least}`, `postgresql-client-${least}`)
  const needed = neededBytes(record)
  const free = await freeRoom(place)
  if (needed <= free) return { server, dump }
  const mib = (bytes: number) => `${Math.ceil(bytes / MIB)} MiB`
  throw new PgrecallError(
    'refused',
    `${place} has ${mib(free)} free, and ${record.id} may need ${mib(needed)} there`,
    { hint: 'name a folder with more room: --scratch DIR' },
  )
}

const asRoot = () =>
  new PgrecallError(
    'refused',
    'PostgreSQL starts no server as root, and whose the cluster is, is not known here',
    {
      hint: 'run this as another user: runuser -u postgres -- pgrecall verify ...',
    },
  )

const missing = (what: string, install: string) =>
  new PgrecallError('refused', `this host has ${what} or later, into which the backup could be loaded`, {
    hint: `install ${install}, or put the folder of these programs on PATH`,
  })

/** As much as the databases took up on the server, where that is known, and not many times as much as their dumps. */
function neededBytes({ databases, objects }: LogicalRecord): number {
  const sizes = objects.map(({ kind, database, archive, bytes, plainBytes = bytes }) => {
    if (kind === 'script') return plainBytes * SCRIPT_FACTOR
    if (kind !== 'dump') return 0
    const onServer = databases.find(({ oid }) => oid === database)?.bytes ?? Number.POSITIVE_INFINITY
    const staged = archive === 'directory' ? plainBytes : 0
    return staged + Math.min(onServer, plainBytes * DUMP_FACTOR)
  })
  return sizes.reduce((sum, size) => sum + size, EMPTY_BYTES)
}

/** @throws PgrecallError as `ScratchServer.start`, and `refused` where no folder can be made */
export async function openScratch(
  { server: programs }: ScratchPlan,
  record: LogicalRecord,
  place: string,
  { env, signal }: { env: Environment; signal: AbortSignal },
): Promise<Scratch> {
  await using owned = new AsyncDisposableStack()
  const folder = owned.use(await StagingFolder.make(place)).path
  const own = ownEnvironment(env)
  const server = owned.use(
    await ScratchServer.start(programs, {
      folder,
      socketFolder:
        folder.length <= LONGEST_SOCKET_FOLDER
          ? folder
          : owned.use(await StagingFolder.make(shortPlace())).path,
      superuser: superuserOf(record),
      locks: Math.max(0, ...record.databases.map(({ contents }) => sumOf(Object.values(contents)))),
      env: own,
      signal,
    }),
  )
  const opened = owned.move()
  return { folder, server, env: own, [Symbol.asyncDispose]: () => opened.disposeAsync() }
}

const shortPlace = () => (tmpdir().length <= '/tmp'.length ? tmpdir() : '/tmp')
const sumOf = (counts: readonly number[]) => counts.reduce((sum, count) => sum + count, 0)

/** Without what libpq and the server take from it: that is about another server. */
const ownEnvironment = (env: Environment): Environment =>
  Object.fromEntries(Object.entries(env).filter(([name]) => !/^PG[A-Z]/.test(name)))

/**
 * It has to be the same here: from 16 on nobody else may give out memberships in his name. Where an old record does not tell him,
 * he mostly owns the first database.
 */
const superuserOf = ({ bootstrapSuperuser, databases }: LogicalRecord) => {
  if (bootstrapSuperuser !== undefined) return bootstrapSuperuser
  const owner = databases.find(({ name }) => name === 'postgres')?.owner ?? 'postgres'
  return owner.startsWith('pg_') ? 'postgres' : owner
}
