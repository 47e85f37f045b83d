import { rm } from 'node:fs/promises'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import { answerOf, backUp } from '../backup/commands.ts'
import { Lab } from '../lab/lab.ts'
import type { ChaosPlan, Link } from './chaos-plan.ts'
import {
  copyForLater,
  type Place,
  placeIn,
  promoteCopy,
  promoteInPlace,
  promoteRestored,
  tablespaceOptions,
} from './failover.ts'
import { type Expected, problemsInFiles, problemsInServer } from './inspect.ts'
import { Source } from './source.ts'
import { MADE_ROWS } from './table-statements.ts'
import { unpack } from './unpack.ts'

/** pgbench's own table, so that nothing in a plan depends on what it did. */
const LOAD = `
  CREATE TABLE load (id int PRIMARY KEY, n int, word text) WITH (fillfactor = 60);
  CREATE INDEX ON load (n);
  INSERT INTO load SELECT i, i, md5(i::text) FROM generate_series(1, 3000) i`
const LOAD_SCRIPT = `\\set id random(1, 6000)
UPDATE load SET n = n + 1, word = md5(word) WHERE id = :id;
DELETE FROM load WHERE id = 6001 - :id;
INSERT INTO load VALUES (:id, 0, repeat('y', :id / 10)) ON CONFLICT (id) DO UPDATE SET n = load.n + 1;
`

/** A plan being carried out. */
export class ChainRun implements AsyncDisposable {
  readonly lab: Lab
  readonly plan: ChaosPlan
  /** What the links turned out to be. */
  readonly records: BackupRecord[] = []
  readonly #source: Source
  readonly #loadScript: string
  readonly #unpacked = new Map<string, string>()
  #restored: Place | undefined
  #spare: Place | undefined

  private constructor(lab: Lab, plan: ChaosPlan, loadScript: string) {
    this.lab = lab
    this.plan = plan
    this.#source = new Source(lab.cluster)
    this.#loadScript = loadScript
  }

  /** Makes the cluster, and all that it has before its first backup. */
  static async begin(plan: ChaosPlan): Promise<ChainRun> {
    const { ground } = plan
    await using owned = new AsyncDisposableStack()
    const lab = owned.use(
      await Lab.create({
        checksums: ground.checksums,
        encrypted: ground.encrypted,
        ...(ground.walSegmentMegabytes === 1 ? { initdb: ['--wal-segsize=1'] } : {}),
        settings: {
          autovacuum: false,
          // A spread checkpoint writes a page in a tenth of a second, as long as it has the time.
          checkpoint_completion_target: 0.05,
          max_prepared_transactions: 2,
          shared_buffers: ground.sharedBuffers,
          wal_log_hints: ground.walLogHints,
          ...(ground.summarize ? { summarize_wal: true } : {}),
        },
      }),
    )
    const script = await lab.scratch.file('load.sql', LOAD_SCRIPT)
    const run = new ChainRun(lab, plan, script)
    for (const space of ground.tablespaces) {
      const folder = await lab.scratch.folder(`place-of-${space}`)
      await lab.cluster.sql(`CREATE TABLESPACE ${space} LOCATION '${folder}'`)
    }
    // Fewer files, since each of them is looked at many times.
    await lab.cluster.sql('ALTER DATABASE template0 IS_TEMPLATE false')
    await lab.cluster.sql('DROP DATABASE template0')
    await lab.cluster.sql(MADE_ROWS, { database: 'template1' })
    await lab.cluster.sql(MADE_ROWS)
    await lab.cluster.sql(`${LOAD}; CREATE TABLE prepared (n int PRIMARY KEY, word text)`)
    for (const name of ['second', 'third']) await lab.cluster.sql(`CREATE DATABASE ${name}`)
    for (const step of plan.furnishing) await run.#source.play(step)
    owned.move()
    return run
  }

  /** Carries out one link, restores it and looks at it. @returns what is wrong, in sentences */
  async link(at: number): Promise<string[]> {
    const link = this.plan.links[at]!
    await this.#failOver(link, at)
    if (link.spare) await this.#makeSpare(at)
    for (const step of link.steps) await this.#source.play(step)
    if (link.prepared) await this.#prepare(at)
    const record = await this.#backUp(link)
    this.records.push(record)
    const problems = await this.#inspect(link, record)
    if (link.prepared) await this.#source.cluster.sql(`COMMIT PREPARED 'link ${at}'`)
    return problems
  }

  async #failOver({ failover }: Link, at: number): Promise<void> {
    if (!failover) return
    await this.#source.leaveAll()
    if (failover === 'in place') return promoteInPlace(this.#source)
    if (failover === 'lagging standby') return promoteCopy(this.lab, this.#source, this.#spare!)
    return promoteRestored(this.lab, this.#source, this.#place(`primary-${at}`))
  }

  async #makeSpare(at: number): Promise<void> {
    this.#spare = this.#place(`spare-${at}`)
    await copyForLater(this.#source, this.#spare)
  }

  async #prepare(at: number): Promise<void> {
    await this.#source.cluster.sql(
      `BEGIN; INSERT INTO prepared SELECT ${at} * 1000 + i, md5(i::text) FROM generate_series(1, 500) i; PREPARE TRANSACTION 'link ${at}'`,
    )
  }

  async #backUp(link: Link): Promise<BackupRecord> {
    const { codec } = this.plan.ground
    const options = ['--type', link.type, '--method', link.method, '--checkpoint', link.checkpoint]
    const more = ['--compression', codec, ...(link.method === 'files' ? ['--jobs', String(link.jobs)] : [])]
    const { cluster } = this.#source
    const load = link.pgbench
      ? cluster.startPgbench({ args: ['--file', this.#loadScript, '--rate=300'] })
      : undefined
    const [record] = await Promise.all([backUp(this.lab, [...options, ...more]), this.#playDuring(link)])
    if (load) await load.stop()
    if (!isQuiet(link)) await cluster.archiveWal()
    return record
  }

  async #playDuring({ during }: Link): Promise<void> {
    for (const step of during) await this.#source.play(step)
  }

  async #inspect(link: Link, record: BackupRecord): Promise<string[]> {
    const { ground } = this.plan
    const quiet = isQuiet(link)
    const expected: Expected = {
      cluster: this.#source.cluster,
      quiet,
      hintsAreLogged: ground.walLogHints,
      checksums: ground.checksums,
    }
    const unpacked = await this.#unpackChain(record)
    const { dataDirectory } = await this.#restore(link, record, quiet)
    const problems = await problemsInFiles(this.lab, { record, dataDirectory, unpacked }, expected)
    await using copy = await this.lab.adopt(dataDirectory, { settings: { archive_mode: false } })
    // A server that does not even start is one more thing to tell.
    const inServer = copy
      .start()
      .then(() => copy.waitForPromotion())
      .then(() => problemsInServer(copy, expected))
    problems.push(...(await inServer.catch((error: Error) => [error.message])))
    return problems
  }

  /** Where nothing was written meanwhile, the end of the backup is what the source still is. */
  async #restore(link: Link, record: BackupRecord, quiet: boolean): Promise<Place> {
    const delta = link.delta && this.#restored !== undefined
    if (!delta) await this.#removeRestored()
    this.#restored ??= this.#place('restored')
    const target = quiet ? ['--immediate', '--target-action', 'promote'] : []
    const options = [...target, ...tablespaceOptions(this.#restored), ...(delta ? ['--delta'] : [])]
    await answerOf(this.lab, ['restore', record.id, '-D', this.#restored.dataDirectory, ...options])
    return this.#restored
  }

  async #removeRestored(): Promise<void> {
    if (!this.#restored) return
    for (const folder of [this.#restored.dataDirectory, ...Object.values(this.#restored.tablespaces)]) {
      await rm(folder, { recursive: true, force: true })
    }
    this.#restored = undefined
  }

  async #unpackChain(record: BackupRecord): Promise<string[]> {
    const chain = [record]
    for (let [first] = chain; first?.parent; [first] = chain) {
      const { id } = first.parent
      chain.unshift(this.records.find((known) => known.id === id)!)
    }
    const folders: string[] = []
    for (const { id } of chain) {
      const folder = this.#unpacked.get(id) ?? (await unpack(this.lab, id, `unpacked-${id}`))
      this.#unpacked.set(id, folder)
      folders.push(folder)
    }
    return folders
  }

  #place(name: string): Place {
    return placeIn(this.lab, name, this.plan.ground.tablespaces)
  }

  /** Leaves everything as it is, for somebody who wants to look. @returns the folders */
  async keep(): Promise<string[]> {
    return this.lab.keep()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#source[Symbol.asyncDispose]()
    await this.lab[Symbol.asyncDispose]()
  }
}

function isQuiet({ during, pgbench }: Link): boolean {
  return during.length === 0 && !pgbench
}
