import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { stringify } from 'yaml'
import { type AdoptOptions, Cluster, type ClusterOptions } from './cluster.ts'
import type { Gateway } from './gateway.ts'
import {
  type LabRepository,
  localRepository,
  makeRepository,
  newKey,
  type Place,
  s3Repository,
} from './lab-repository.ts'
import { type Product, product, type RunOptions, type RunResult, resultOf, startPgrecall } from './product.ts'
import { Scratch } from './scratch.ts'

export { makeRepository } from './lab-repository.ts'

/** The shape of pgrecall's configuration file, as far as the lab fills it. */
export interface LabConfiguration {
  repositories: Record<string, Record<string, unknown>>
  clusters: Record<string, Record<string, unknown>>
  [section: string]: unknown
}

export interface LabOptions extends Omit<ClusterOptions, 'within' | 'name' | 'archiveCommand'> {
  /** `false` leaves `archive_mode` off; default true. */
  archive?: boolean
  /** Where the cluster's repositories are, by their names; default one, `{ local: 'local' }`. */
  repositories?: Record<string, Place>
  /** Encrypts all of them to one key, whose secret half this host has. */
  encrypted?: boolean
  /** Changes the configuration before it is written. */
  configure?: (configuration: LabConfiguration) => void
}

/** A server, repositories and a configuration that ties them: all in one scratch folder, but for what lies in buckets. */
export class Lab implements AsyncDisposable {
  readonly scratch: Scratch
  readonly cluster: Cluster
  readonly product: Product
  /** Folder of the repository `local`. */
  readonly repository: string
  /** All of them, by name. */
  readonly repositories: Record<string, LabRepository> = {}
  /** Where its buckets are, if it has some. */
  gateway: Gateway | undefined
  readonly configFile: string
  #owned: AsyncDisposableStack
  readonly #ending = new AbortController()
  readonly #children = new Set<Promise<unknown>>()
  #adopted = 0
  #kept = false

  private constructor(scratch: Scratch, cluster: Cluster, product: Product, owned: AsyncDisposableStack) {
    this.scratch = scratch
    this.cluster = cluster
    this.product = product
    this.#owned = owned
    this.repository = folderOf('local', scratch)
    this.configFile = configFileIn(scratch)
  }

  static async create(options: LabOptions = {}): Promise<Lab> {
    const {
      archive = true,
      repositories = { local: 'local' },
      encrypted,
      configure,
      start = true,
      ...clusterOptions
    } = options
    const found = await product()
    await using owned = new AsyncDisposableStack()
    const scratch = owned.use(await Scratch.create())
    const cluster = owned.use(
      await Cluster.create({
        ...clusterOptions,
        within: scratch,
        start: false,
        ...(archive ? { archiveCommand: archiveCommand(found.launcher, configFileIn(scratch)) } : {}),
      }),
    )
    const lab = new Lab(scratch, cluster, found, owned)
    const encryption = encrypted ? { encryption: await newKey(scratch) } : {}
    if (Object.values(repositories).includes('s3')) {
      // Only a test that is about it pays for the SDK.
      const { sharedGateway } = await import('./gateway.ts')
      lab.gateway = await sharedGateway()
    }
    for (const [name, place] of Object.entries(repositories)) {
      const made =
        place === 's3' ? await s3Repository(lab.gateway!) : localRepository(folderOf(name, scratch))
      lab.repositories[name] = { ...made, configuration: { ...made.configuration, ...encryption } }
    }
    await lab.writeConfiguration(configure)
    if (start) await cluster.start()
    lab.#owned = owned.move()
    return lab
  }

  /** Writes the configuration anew: the repositories, one cluster `main`, and what `configure` changes. */
  async writeConfiguration(configure?: (configuration: LabConfiguration) => void): Promise<void> {
    const { dataDirectory, host, port, user } = this.cluster
    const repositories = Object.entries(this.repositories)
    const configuration: LabConfiguration = {
      repositories: Object.fromEntries(
        repositories.map(([name, made]) => [name, structuredClone(made.configuration)]),
      ),
      clusters: {
        main: {
          dataDirectory,
          connection: { host, port, user },
          repositories: repositories.map(([name]) => name),
        },
      },
    }
    configure?.(configuration)
    // A test that is not about chains takes whole backups, however many.
    for (const cluster of Object.values(configuration.clusters)) {
      cluster.backup = { type: 'full', ...(cluster.backup as object | undefined) }
    }
    for (const { path } of Object.values(configuration.repositories)) {
      if (typeof path === 'string' && !existsSync(path) && existsSync(dirname(path)))
        await makeRepository(path)
    }
    await this.scratch.file('pgrecall.yaml', stringify(configuration))
  }

  /** Runs `pgrecall --config <the lab's> ...` to its end, as the servers' user. */
  async pgrecall(args: string[], options: RunOptions = {}): Promise<RunResult> {
    return resultOf((await this.startPgrecall(args, options)).process)
  }

  /** The same in the background. @returns execa's running `process`, which disposing ends */
  async startPgrecall(args: string[], options: RunOptions = {}) {
    const signals = [this.#ending.signal, ...(options.signal ? [options.signal] : [])]
    const started = await startPgrecall(['--config', this.configFile, ...args], {
      home: this.scratch.path,
      ...options,
      signal: AbortSignal.any(signals),
    })
    this.#children.add(started.process)
    void started.process.finally(() => this.#children.delete(started.process))
    return started
  }

  /** A server on a restored directory; not started. Disposing of the lab stops it. */
  async adopt(dataDirectory: string, options: Omit<AdoptOptions, 'within'> = {}): Promise<Cluster> {
    const name = options.name ?? `adopted-${++this.#adopted}`
    const { programs } = this.cluster
    return this.#owned.use(
      await Cluster.adopt(dataDirectory, { programs, ...options, name, within: this.scratch }),
    )
  }

  /** From now on the lab stays, with its servers running, also after this process. @returns the folders that stay */
  async keep(): Promise<string[]> {
    this.#kept = true
    const kept = [this.scratch, this.product.stage, this.gateway?.scratch].filter(
      (scratch) => scratch !== undefined,
    )
    for (const scratch of kept) await scratch.keep()
    return kept.map((scratch) => scratch.path)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#kept) return
    this.#ending.abort()
    await Promise.allSettled(this.#children)
    await this.#owned.disposeAsync()
  }
}

function folderOf(repository: string, scratch: Scratch): string {
  return join(scratch.path, repository === 'local' ? 'repository' : `repository-${repository}`)
}

function configFileIn(scratch: Scratch): string {
  return join(scratch.path, 'pgrecall.yaml')
}

function archiveCommand(launcher: string, configFile: string): string {
  return `${shellWord(launcher)} --config ${shellWord(configFile)} wal-push "%p"`
}

/** PostgreSQL's own `%` is doubled; quotes only where needed, since people read this in `postgresql.conf`. */
function shellWord(text: string): string {
  const escaped = text.replaceAll('%', '%%')
  return /^[\w./+:@%-]+$/.test(escaped) ? escaped : `'${escaped.replaceAll("'", `'\\''`)}'`
}
