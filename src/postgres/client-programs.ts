import { readdir } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { execa } from 'execa'
import type { ConnectionOptions } from './server.ts'

export type Environment = Record<string, string | undefined>

/** One of PostgreSQL's client programs. */
export interface Program {
  path: string
  majorVersion: number
}

/** Where packages put PostgreSQL's programs: Debian's and its kin, and those of postgresql.org for Red Hat's. */
const PLACES = [
  { parent: '/usr/lib/postgresql', pattern: /^\d+$/ },
  { parent: '/usr', pattern: /^pgsql-\d+$/ },
]

/**
 * Finds a program that is not older than what it has to work with: a server, which it would refuse, or the program that
 * made an archive. Looks on PATH, in the packages' folders, and where `pg_config` says. Of several it is the one that is
 * least newer, because what a newer one writes can often be read by that one only, and says things that an older server
 * does not understand.
 *
 * @param name `pg_dump`, `pg_restore`...
 * @returns undefined when there is none
 */
export async function findProgram(
  name: string,
  atLeastMajor: number,
  env: Environment,
): Promise<Program | undefined> {
  let closest: Program | undefined
  for await (const folder of folders(env)) {
    const program = await programIn(folder, name, env)
    if (!program || program.majorVersion < atLeastMajor) continue
    if (program.majorVersion === atLeastMajor) return program
    if (!closest || program.majorVersion < closest.majorVersion) closest = program
  }
  return closest
}

async function* folders(env: Environment): AsyncGenerator<string> {
  yield* (env.PATH ?? '').split(delimiter).filter((folder) => folder !== '')
  for (const { parent, pattern } of PLACES) {
    const names = await readdir(parent).catch(() => [])
    const newestFirst = names.filter((name) => pattern.test(name)).sort((a, b) => versionIn(b) - versionIn(a))
    yield* newestFirst.map((name) => join(parent, name, 'bin'))
  }
  const { stdout, failed } = await execa('pg_config', ['--bindir'], { env, extendEnv: false, reject: false })
  if (!failed) yield stdout
}

const versionIn = (name: string) => Number(/\d+$/.exec(name)?.[0])

async function programIn(folder: string, name: string, env: Environment): Promise<Program | undefined> {
  const path = join(folder, name)
  const { stdout } = await execa(path, ['--version'], { env, extendEnv: false, reject: false })
  const version = /\(PostgreSQL\) (\d+)/.exec(stdout ?? '')?.[1]
  return version === undefined ? undefined : { path, majorVersion: Number(version) }
}

/**
 * How a program is told where to connect. Everybody on the host can read the arguments of a process, so secrets go by
 * its environment.
 *
 * libpq takes a `--dbname` that holds a "=" or starts like a URI for a whole connection string, and only in there a name
 * is always a name; so the database is given inside one.
 * @see https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING
 */
export function connectionArguments(connection: ConnectionOptions): {
  args: string[]
  secrets: Record<string, string>
} {
  const { uri, host, port, user, database, password } = connection
  if (uri === undefined) {
    const args = [
      ...(host === undefined ? [] : [`--host=${host}`]),
      ...(port === undefined ? [] : [`--port=${port}`]),
      ...(user === undefined ? [] : [`--username=${user}`]),
      ...(database === undefined ? [] : [`--dbname=${connectionString(database)}`]),
    ]
    return { args, secrets: password === undefined ? {} : { PGPASSWORD: password } }
  }
  // As the driver reads it: a password may hold an "@" that nobody escaped.
  const [, scheme = '', who = '', rest = ''] = /^(\w+:\/\/)(?:([^/?#]*)@)?(.*)$/s.exec(uri) ?? []
  const colon = who.indexOf(':')
  const name = colon < 0 ? who : who.slice(0, colon)
  const inName = colon < 0 ? undefined : who.slice(colon + 1)
  const [inUri = '', query = ''] = rest.split(/\?(.*)/s)
  const place = database === undefined ? inUri : `${inUri.split('/')[0]}/${encodeURIComponent(database)}`
  const settings = query.split('&').filter((setting) => setting !== '')
  const isSecret = (setting: string) => /^(?:ssl)?password=/.test(setting)
  const isReplaced = (setting: string) => database !== undefined && setting.startsWith('dbname=')
  const inQuery = settings.find((setting) => setting.startsWith('password='))?.slice('password='.length)
  const open = settings.filter((setting) => !isSecret(setting) && !isReplaced(setting)).join('&')
  const secret = inQuery ?? inName ?? password
  const plain = `${scheme}${name && `${name.replaceAll('@', '%40')}@`}${place}${open && `?${open}`}`
  const asWritten = secret === password ? secret : secret && decodeURIComponent(secret)
  return { args: [`--dbname=${plain}`], secrets: asWritten === undefined ? {} : { PGPASSWORD: asWritten } }
}

/** The same for programs that speak the replication protocol, where a database has no part. */
export function replicationArguments({ database: _none, ...connection }: ConnectionOptions) {
  return connectionArguments(connection)
}

/** A connection string that names a database, whatever its name looks like. */
export function connectionString(database: string): string {
  return `dbname='${database.replaceAll(/[\\']/g, '\\$&')}'`
}
