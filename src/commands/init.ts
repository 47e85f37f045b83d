import { access, chown, link, mkdir, readdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { stringify } from 'yaml'
import { claimIdentity, markRepository } from '../catalog/identity.ts'
import { REPOSITORY_MARKER } from '../catalog/layout.ts'
import { parseConfig } from '../config/load.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import { quoteForRestoreCommand } from '../postgres/recovery-settings.ts'
import type { ServerFacts } from '../postgres/server.ts'
import { settingLine } from '../postgres/setting-line.ts'
import type { CommandContext, Run } from './context.ts'
import { onlyLooking } from './only-looking.ts'

/** Writes a configuration for the cluster that runs here, makes the repository, and says what to tell PostgreSQL. */
export const run: Run = async ({ options }, context) => {
  const file = outputOf(options, context)
  await requireFree(file, options.force === true)
  const facts = await lookAtServer(context)
  const owner = facts ? await stat(facts.dataDirectory) : undefined
  const path = resolve(context.cwd, (options.path as string | undefined) ?? defaultPath(context))

  await requireUsable(path)
  const storage = await context.makeLocalRepository(path, owner && { uid: owner.uid, gid: owner.gid })
  const { created } = await markRepository(storage)
  if (facts) await claimIdentity(storage, 'main', facts)

  const text = await configText(path, facts, context)
  parseConfig(text, file)
  const before = await setAside(file)
  await writeConfig(file, text, owner, context)
  const lines = postgresLines(file, context)
  return {
    text: [
      before === undefined ? `Wrote ${file}.` : `Wrote ${file}; what was there before is ${before}.`,
      `${created ? 'Made' : 'Found'} the repository ${path}.`,
      facts
        ? `The cluster is PostgreSQL ${facts.versionText} at ${facts.dataDirectory}.`
        : 'No running server was found; complete the file.',
      '',
      'Put these lines into postgresql.conf and restart the server:',
      '',
      ...lines.map((line) => `  ${line}`),
      '',
      'Then see that everything is in place with "pgrecall check", and take a backup with "pgrecall backup".',
    ].join('\n'),
    json: {
      config: file,
      repository: path,
      created,
      dataDirectory: facts?.dataDirectory ?? null,
      postgresqlConf: lines,
    },
  }
}

function outputOf(options: Record<string, unknown>, { env, home, isRoot, cwd }: CommandContext): string {
  const named = (options.output ?? options.config ?? env.PGRECALL_CONFIG) as string | undefined
  if (named) return resolve(cwd, named)
  // PostgreSQL runs archive_command as its own user, who reads the file below /etc too.
  return isRoot
    ? '/etc/pgrecall/config.yaml'
    : join(env.XDG_CONFIG_HOME || join(home, '.config'), 'pgrecall', 'config.yaml')
}

async function requireFree(file: string, force: boolean): Promise<void> {
  if (force || !(await isThere(file))) return
  throw new PgrecallError('refused', `${file} exists already`, {
    hint: 'edit it, write elsewhere with --output, or replace it with --force',
  })
}

function isThere(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  )
}

/** What is going to be replaced stays beside it, by another name. @returns its path; undefined where there was none */
async function setAside(file: string): Promise<string | undefined> {
  const old = `${file}.old`
  if (!(await isThere(file))) return undefined
  try {
    await rm(old, { force: true })
    await link(file, old)
    return old
  } catch (error) {
    throw new PgrecallError('config', `cannot keep the old ${file}: ${reasonOf(error)}`, {
      hint: 'move it away yourself, or write elsewhere with --output FILE',
      cause: error,
    })
  }
}

/** A folder that holds other things is not turned into a repository. */
async function requireUsable(path: string): Promise<void> {
  const names: string[] = await readdir(path).catch(() => [])
  if (names.length === 0 || names.includes(REPOSITORY_MARKER)) return
  throw new PgrecallError('refused', `${path} is not empty, and no repository`, {
    hint: 'choose another folder with --path; it is made if it does not exist',
  })
}

async function lookAtServer(context: CommandContext): Promise<ServerFacts | undefined> {
  try {
    await using server = await onlyLooking(context).connect()
    return await server.facts()
  } catch (error) {
    context.signal.throwIfAborted()
    context.events.emit('warning', { text: `no server was asked: ${reasonOf(error)}` })
    return undefined
  }
}

function defaultPath({ isRoot, env, home }: CommandContext): string {
  return isRoot ? '/var/lib/pgrecall' : join(env.XDG_DATA_HOME || join(home, '.local', 'share'), 'pgrecall')
}

async function configText(
  path: string,
  facts: ServerFacts | undefined,
  context: CommandContext,
): Promise<string> {
  const { host, port, user } = await context.connection()
  const config = {
    repositories: { local: { type: 'local', path } },
    clusters: {
      main: {
        ...(facts && { dataDirectory: facts.dataDirectory }),
        connection: { ...(host && { host }), ...(port && { port }), user: user ?? 'postgres' },
        repositories: ['local'],
        backup: { method: 'files', jobs: 2, compression: 'zstd:1' },
        retention: { full: 2 },
      },
    },
  }
  return `# Made by "pgrecall init". config.example.yaml shows every key with its meaning.\n${stringify(config)}`
}

/** Written aside and renamed; readable by the server's own user, who runs archive_command. */
async function writeConfig(
  file: string,
  text: string,
  owner: { uid: number; gid: number } | undefined,
  { isRoot }: CommandContext,
): Promise<void> {
  const temporary = `${file}.${process.pid}`
  try {
    await mkdir(dirname(file), { recursive: true, mode: isRoot ? 0o755 : 0o700 })
    await writeFile(temporary, text, { mode: isRoot && !owner ? 0o644 : 0o600 })
    if (isRoot && owner) await chown(temporary, owner.uid, owner.gid)
    await rename(temporary, file)
  } catch (error) {
    throw new PgrecallError('config', `cannot write ${file}: ${reasonOf(error)}`, {
      hint: 'write it elsewhere with --output FILE',
      cause: error,
    })
  }
}

function postgresLines(file: string, { launcher }: CommandContext): string[] {
  const command = `${quoteForRestoreCommand(launcher)} --config ${quoteForRestoreCommand(file)} wal-push "%p"`
  return [
    'wal_level = replica',
    'archive_mode = on',
    settingLine('archive_command', command),
    'archive_timeout = 60   # at most a minute of changes is not yet archived',
  ]
}
