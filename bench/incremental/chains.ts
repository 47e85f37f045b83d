import { execa } from 'execa'
import { findPrograms } from '../../test/lab/programs.ts'
import type { Settings } from '../../test/lab/settings.ts'
import { mixedData } from '../data.ts'
import { Ground } from '../ground.ts'
import { type Measured, measure } from '../measure.ts'
import type { ChainToolName, IncrementalBenchOptions } from '../options.ts'
import { pgIncremental } from '../tools/pg-incremental.ts'
import { pgbackrestWithBlocks } from '../tools/pgbackrest.ts'
import { pgrecall } from '../tools/pgrecall.ts'
import type { ChainTool, ChainToolOf } from '../tools/tool.ts'
import { changePages, FILLFACTOR, PAGE_BYTES } from './changes.ts'

/** One incremental backup by one tool. */
export interface IncrementRun extends Measured {
  tool: string
  round: number
  /** Of the data directory without its WAL, before anything was changed. */
  clusterBytes: number
  /** Share of the pages that was asked for, and how many pages of tables were changed. */
  share: number
  changedPages: number
  /** Read by whoever reads the cluster's files for this tool: those, and all else that it needs. */
  sourceBytes: number
  storedBytes: number
}

/** The first version that tells by WAL summaries which pages have changed. */
const FIRST_WITH_SUMMARIES = 17

/** A cluster, and a chain of its backups by each tool: all of them take the same changes. */
export class Chains implements AsyncDisposable {
  readonly ground: Ground
  readonly tools: ChainTool[]
  #steps = 0

  private constructor(ground: Ground, tools: ChainTool[]) {
    this.ground = ground
    this.tools = tools
  }

  /** @param used is told the tools' versions */
  static async create(
    size: number,
    { jobs, pgbackrest, tools: names }: IncrementalBenchOptions,
    used: Map<string, string>,
  ): Promise<Chains> {
    const settings: Settings = findPrograms()!.major >= FIRST_WITH_SUMMARIES ? { summarize_wal: true } : {}
    say(`making a cluster of ${size / 1e9} GB`)
    await using owned = new AsyncDisposableStack()
    const ground = owned.use(await Ground.create(mixedData(size, FILLFACTOR), jobs, settings))
    say(`${(ground.bytes / 1e9).toFixed(2)} GB in ${ground.files} files`)
    const tools: ChainTool[] = []
    const candidates: Record<ChainToolName, ChainToolOf> = {
      pgrecall,
      pgbackrest: pgbackrestWithBlocks(pgbackrest),
      pg_basebackup: pgIncremental,
    }
    for (const name of names) {
      const tool = await candidates[name](ground)
      const version = await tool.version()
      if (version) tools.push(tool)
      used.set(tool.name, version ?? 'not installed')
    }
    owned.move()
    return new Chains(ground, tools)
  }

  /** Every tool forgets what it has, and takes a full backup. */
  async begin(): Promise<void> {
    for (const tool of this.tools) {
      await tool.cleanup()
      await tool.prepare()
      const { seconds } = await this.#take(tool, () => tool.backup())
      say(`${tool.name} full: ${seconds.toFixed(2)} s, ${megabytes(await tool.storedBytes())} MB stored`)
    }
  }

  /**
   * Changes a share of the pages, and lets every tool back that up, in an order that each round turns by one.
   * @param share of the pages of a cluster of `ofBytes`, by default of this one
   */
  async grow(share: number, round: number, ofBytes = this.ground.bytes): Promise<IncrementRun[]> {
    const { bytes: clusterBytes, cluster } = this.ground
    const pages = Math.round((ofBytes / PAGE_BYTES) * share)
    const changedPages = await changePages(cluster, pages, ++this.#steps)
    const runs: IncrementRun[] = []
    for (const tool of turned(this.tools, round - 1)) {
      const before = await tool.storedBytes()
      const measured = await this.#take(tool, () => tool.incremental())
      const storedBytes = (await tool.storedBytes()) - before
      const sourceBytes = tool.reader === 'server' ? measured.serverReadBytes : measured.readBytes
      const facts = { tool: tool.name, round, clusterBytes, share, changedPages, sourceBytes, storedBytes }
      runs.push({ ...facts, ...measured })
      const figures = `${measured.seconds.toFixed(2)} s, ${megabytes(sourceBytes)} MB read, ${megabytes(storedBytes)} MB stored`
      say(`round ${round}: ${changedPages} pages changed, ${tool.name}: ${figures}`)
    }
    return runs
  }

  async #take(tool: ChainTool, command: () => ReturnType<ChainTool['backup']>): Promise<Measured> {
    await this.ground.archiveWith(tool.archiveCommand ?? 'true')
    await this.ground.warm()
    await execa('sync')
    const measured = await measure(command(), this.ground)
    await this.ground.archiveWith('true')
    return measured
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.ground[Symbol.asyncDispose]()
  }
}

export function turned<Item>(items: readonly Item[], by: number): Item[] {
  const start = by % items.length
  return [...items.slice(start), ...items.slice(0, start)]
}

export function say(text: string): void {
  console.error(text)
}

const megabytes = (bytes: number) => (bytes / 1e6).toFixed(1)
