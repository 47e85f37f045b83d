import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { openRepositoryWith } from './catalog/open-repository.ts'
import type { Repository } from './catalog/repository.ts'
import type { Invocation } from './cli/invocation.ts'
import { decideColor } from './cli/terminal.ts'
import type { CommandContext } from './commands/context.ts'
import { type ChosenRepository, chooseCluster, chooseRepositories } from './config/choose.ts'
import { loadIdentities, recipientsOf } from './config/keys.ts'
import type { LoadedConfig } from './config/load.ts'
import { storageAddress } from './config/storage-address.ts'
import { PgrecallError } from './errors.ts'
import type { Events } from './events.ts'
import type { ConnectionOptions } from './postgres/server.ts'

declare const process: NodeJS.Process

/** The build puts it in. */
export const VERSION = process.env.PGRECALL_VERSION ?? 'development'

/** What a context is made in: the process's own surroundings, or what a program that imports us hands over. */
export interface Surroundings extends Pick<CommandContext, 'cwd' | 'env' | 'launcher' | 'view'> {
  /** In place of a file. */
  configuration?: LoadedConfig | undefined
}

/** Of the command line. */
export function processSurroundings(): Surroundings {
  const { env } = process
  return {
    cwd: process.cwd(),
    env,
    launcher: env.PGRECALL_LAUNCHER ?? process.argv[1] ?? 'pgrecall',
    view: {
      color: decideColor(env, process.stdout),
      width: process.stdout.isTTY ? process.stdout.columns : undefined,
    },
  }
}

/** Of the library: nobody looks, and what a restored server calls is the launcher that came with us. */
export function librarySurroundings(
  given: Partial<Pick<Surroundings, 'env' | 'configuration'>>,
): Surroundings {
  const launcher = join(import.meta.dirname, '..', 'bin', 'pgrecall')
  const view = { color: false, width: undefined }
  return { env: process.env, ...given, cwd: process.cwd(), launcher, view }
}

/** Builds what commands are handed: the one place that makes clients and reads the process's surroundings for them. */
export async function buildContext(
  { options }: Pick<Invocation, 'options'>,
  version: string,
  events: Events,
  signal: AbortSignal,
  { cwd, env, launcher, view, configuration }: Surroundings = processSurroundings(),
): Promise<CommandContext> {
  const isRoot = process.getuid?.() === 0
  const { loadConfig, configPaths } = await import('./config/load.ts')
  const { defaultConfig, findLocalServers, homeOf } = await import('./config/defaults.ts')
  let loaded = configuration
  const config = () => {
    loaded ??= loadConfig(options.config as string | undefined, { env, home: homedir(), cwd }) ?? {
      config: defaultConfig(env, homeForDefaults()),
      file: undefined,
      absent: configPaths({ env, home: homedir() }),
      warnings: [],
    }
    return loaded
  }
  /** Root acts for the server's own user, with whom it has to share the repository. */
  const homeForDefaults = () => {
    const owner = isRoot ? findLocalServers()[0]?.uid : undefined
    return (owner === undefined ? undefined : homeOf(owner)) ?? homedir()
  }
  const cluster = () => chooseCluster(config(), options.cluster as string | undefined)
  const warn = (text: string) => events.emit('warning', { text })
  const open = (of: ReturnType<typeof cluster>, named: readonly string[] | undefined) =>
    chooseRepositories(config().config, of, named).map((chosen) => openChosen(chosen, warn))
  const connection = async (of?: string): Promise<ConnectionOptions> => {
    const { connectionFor } = await import('./config/connection.ts')
    const meant = of === undefined ? safely(cluster) : chooseCluster(config(), of)
    return connectionFor(meant?.config.connection ?? {}, env, findLocalServers)
  }
  return {
    events,
    signal,
    now: () => new Date(),
    cwd,
    home: homedir(),
    env,
    isRoot,
    version,
    launcher,
    view,
    completion: async (shell) => {
      const { completionScript } = await import('./cli/completion.ts')
      const { buildProgram } = await import('./cli/program.ts')
      return completionScript(
        shell,
        buildProgram(version, async () => {}),
      )
    },
    config,
    cluster,
    repositories: () => {
      const named = options.repository as string | undefined
      return open(cluster(), named === undefined ? undefined : [named])
    },
    clusters: () => Object.keys(config().config.clusters),
    repositoriesOf: (name, named) => open(chooseCluster(config(), name), named),
    makeIfNew: async ({ name, storage }) => {
      const { markRepository, requireRepository } = await import('./catalog/identity.ts')
      const isFolder = storage.address.type === 'local'
      if (isFolder && existsSync(storage.location)) return requireRepository(storage)
      const { created } = await markRepository(storage)
      // It may as well be that the folder was moved away, and with it all that is stored.
      if (created && isFolder)
        warn(`there was no folder ${storage.location}: made a new, empty repository "${name}" in it`)
    },
    makeLocalRepository: async (path, owner) => {
      const { LocalStorage } = await import('./storage/local.ts')
      const storage = new LocalStorage(path)
      await storage.create(owner)
      return storage
    },
    snapshots: async () => {
      const { openSnapshots } = await import('./snapshot/open.ts')
      const { programRunner } = await import('./snapshot/run.ts')
      const { isEmptiedFolder } = await import('./postgres/data-directory.ts')
      const { name, config } = cluster()
      if (!config.backup.snapshot) {
        throw new PgrecallError(
          'config',
          `it is not configured how snapshots of cluster "${name}" are made`,
          {
            hint: 'set clusters.<name>.backup.snapshot.provider: btrfs, zfs, lvm, reflink or commands; see docs/snapshots.md',
          },
        )
      }
      return openSnapshots(config.backup.snapshot, {
        run: programRunner(env.PATH),
        isEmptied: isEmptiedFolder,
      })
    },
    connection,
    connect: async (of) => (await import('./postgres/server.ts')).Server.connect(await connection(of)),
  }
}

/** A key may still be needed, for what was encrypted before. */
const NO_ENCRYPTION = { recipients: [], recipientsFile: [], identityFile: [] }

function openChosen({ name, required, config }: ChosenRepository, warn: (text: string) => void): Repository {
  const { encryption } = config
  const recipients = encryption ? recipientsOf(encryption) : []
  const address = { name, required, storage: storageAddress(config), recipients }
  return openRepositoryWith(address, () => loadIdentities(encryption ?? NO_ENCRYPTION, warn))
}

function safely<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}
