import { PgrecallError } from '../errors.ts'
import type { LogicalRestoreRequest } from '../logical/restore-request.ts'
import type { ConnectionOptions } from '../postgres/server.ts'
import { tablespaceMapOf } from './restore-question.ts'

/** Options of `restore` that one kind of backups has, with what they are when they are not given. */
const OPTIONS: Record<'logical' | 'physical', Record<string, unknown>> = {
  logical: {
    host: undefined,
    port: undefined,
    username: undefined,
    database: [],
    into: undefined,
    create: undefined,
    clean: undefined,
    table: [],
    schema: [],
    excludeSchema: [],
    schemaOnly: undefined,
    dataOnly: undefined,
    globals: true,
    owner: true,
    privileges: true,
    role: undefined,
    mapRole: [],
    analyze: true,
    compare: undefined,
    staging: undefined,
  },
  physical: {
    dataDirectory: undefined,
    time: undefined,
    lsn: undefined,
    xid: undefined,
    name: undefined,
    immediate: undefined,
    exclusive: undefined,
    targetAction: 'pause',
    targetTimeline: 'latest',
    standby: undefined,
    archiveMode: 'preserve',
    delta: undefined,
    includeDatabase: [],
  },
}

/**
 * Refuses the options that are for one kind of backups only.
 * @throws PgrecallError `usage`
 */
export function refuseRestoreOptionsOf(kind: 'logical' | 'physical', options: Record<string, unknown>): void {
  const isGiven = ([name, usual]: [string, unknown]) =>
    Array.isArray(usual) ? (options[name] as unknown[]).length > 0 : options[name] !== usual
  const [given, usual] = Object.entries(OPTIONS[kind]).find(isGiven) ?? []
  if (given === undefined) return
  const dashed = given.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
  const option = usual === true ? `--no-${dashed}` : `--${dashed}`
  throw new PgrecallError('usage', `${option} is for ${kind} backups only`, {
    hint:
      kind === 'logical'
        ? 'name a logical backup by its id, as "pgrecall list" shows it'
        : 'leave it out: a logical backup is restored into a running server, as it was dumped',
  })
}

/** What the options ask for. @throws PgrecallError `usage` */
export function logicalRequestOf(
  cluster: string,
  id: string,
  options: Record<string, unknown>,
  cwd: string,
): LogicalRestoreRequest {
  const lists = (name: string) => options[name] as string[]
  const only = options.schemaOnly ? 'schema' : options.dataOnly ? 'data' : undefined
  if (options.schemaOnly && options.dataOnly)
    throw new PgrecallError('usage', '--schema-only and --data-only exclude each other')
  if (lists('mapRole').length > 0 && (options.role !== undefined || options.owner === false))
    throw new PgrecallError('usage', '--map-role says who owns what, and so do --role and --no-owner')
  if (options.clean && only === 'data')
    throw new PgrecallError('usage', '--clean drops tables, which --data-only does not make again')
  if (options.compare && only === 'schema')
    throw new PgrecallError('usage', '--compare counts rows, of which --schema-only restores none', {
      hint: 'leave one of both out',
    })
  const choice = {
    tables: lists('table'),
    schemas: lists('schema'),
    excludeSchemas: lists('excludeSchema'),
    only,
  } as const
  const into = options.into as string | undefined
  const isWhole = lists('database').length + choice.tables.length + choice.schemas.length === 0
  return {
    cluster,
    id,
    databases: { include: lists('database'), exclude: lists('excludeDatabase') },
    into,
    choice,
    create: options.create === true,
    clean: options.clean === true,
    force: options.force === true,
    globals: options.globals === true && isWhole && into === undefined && only !== 'data',
    noOwner: options.owner === false,
    noPrivileges: options.privileges === false,
    role: options.role as string | undefined,
    roles: roleMapOf(lists('mapRole')),
    tablespaces: tablespaceMapOf(lists('tablespace'), cwd),
    jobs: (options.jobs as number | undefined) ?? 1,
    staging: options.staging as string | undefined,
    analyze: options.analyze === true,
    compare: options.compare === true,
  }
}

/** What `--map-role OLD=NEW` says. */
function roleMapOf(mappings: readonly string[]): Map<string, string> {
  return new Map(
    mappings.map((mapping) => {
      const [, old, name] = /^([^=]+)=(.+)$/s.exec(mapping) ?? []
      if (old !== undefined) return [old, name!]
      throw new PgrecallError('usage', `--map-role "${mapping}" is not of the form OLD=NEW`)
    }),
  )
}

/**
 * The server that is restored into: the cluster's own, or the one that the options name.
 * @throws PgrecallError `usage` for a part of what the configuration names as a whole
 */
export function targetOf(own: ConnectionOptions, options: Record<string, unknown>): ConnectionOptions {
  const named = {
    ...(options.host !== undefined && { host: options.host as string }),
    ...(options.port !== undefined && { port: options.port as number }),
    ...(options.username !== undefined && { user: options.username as string }),
  }
  if (Object.keys(named).length === 0) return own
  if (own.uri !== undefined && options.host === undefined)
    throw new PgrecallError(
      'usage',
      'the configuration names the server by a URI, of which no part can be changed',
      {
        hint: 'name all of the server: --host, --port and --username',
      },
    )
  const { host, port, user } = own
  // The configured password is for the configured server.
  return {
    ...(host !== undefined && { host }),
    ...(port !== undefined && options.host === undefined && { port }),
    ...(user !== undefined && { user }),
    database: 'postgres',
    ...named,
  }
}

/** The environment of PostgreSQL's programs: libpq's other ways to name a host would go before the one that is named. */
export function environmentOf(
  env: Record<string, string | undefined>,
  options: Record<string, unknown>,
): Record<string, string | undefined> {
  if (options.host === undefined) return env
  const { PGHOSTADDR: _address, PGSERVICE: _service, ...rest } = env
  return rest
}
