import { execa } from 'execa'
import type { Cluster } from './cluster.ts'

export interface LoadOptions {
  database?: string
  /** Ends by itself after this; default an hour. */
  seconds?: number
  /** Connections; default 2. */
  clients?: number
  /** More options for pgbench, e.g. `--rate=200`. */
  args?: string[]
}

/** pgbench in the background. */
export class Load implements AsyncDisposable {
  readonly #cluster: Cluster
  readonly #process: ReturnType<typeof launch>

  private constructor(cluster: Cluster, process: ReturnType<typeof launch>) {
    this.#cluster = cluster
    this.#process = process
  }

  static start(cluster: Cluster, options: LoadOptions = {}): Load {
    return new Load(cluster, launch(cluster, options))
  }

  /**
   * Ends it, and resolves when the server has ended its sessions too: from then on it writes nothing.
   *
   * @returns what it wrote to stderr, with the reason when it had failed before
   */
  async stop(): Promise<string> {
    this.#process.kill('SIGTERM')
    const { stderr } = await this.#process
    if (this.#cluster.isRunning) {
      await this.#cluster.waitUntil(
        `NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'pgbench')`,
      )
    }
    return stderr
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill('SIGTERM')
    await this.#process
  }
}

function launch(cluster: Cluster, options: LoadOptions) {
  const { database = 'postgres', seconds = 3600, clients = 2, args = [] } = options
  const all = [`--client=${clients}`, '--jobs=1', `--time=${seconds}`, '--no-vacuum', ...args, database]
  return execa(cluster.programs.path('pgbench'), all, { ...cluster.childOptions, reject: false })
}
