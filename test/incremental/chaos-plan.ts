import { Chance } from '../crash/chance.ts'
import { drawDatabaseStep, furnish } from './database-steps.ts'
import { drawTableStep } from './table-steps.ts'
import { between, type Database, happens, pick, type Step, textOf, type World } from './world.ts'

/** How a cluster is made, and its backups. */
export interface Ground {
  checksums: boolean
  /** Only without checksums, which imply it. */
  walLogHints: boolean
  walSegmentMegabytes: 1 | 16
  sharedBuffers: '1MB' | '8MB' | '32MB'
  /** 17 and later. */
  summarize: boolean
  tablespaces: string[]
  encrypted: boolean
  codec: 'zstd:1' | 'gzip:1' | 'none'
}

/** Who becomes the primary before a link: the same directory, or a standby that was restored, or one that lags behind. */
export type Failover = 'in place' | 'restored standby' | 'lagging standby'

/** One backup, and what comes before and beside it. */
export interface Link {
  /** A copy is taken here, for a later failover to a standby that knows nothing of what follows. */
  spare: boolean
  failover?: Failover
  steps: Step[]
  method: 'files' | 'stream'
  type: 'full' | 'incr' | 'diff'
  jobs: number
  checkpoint: 'fast' | 'spread'
  /** Done while the backup runs; then it is restored to the end of the WAL, else to its own end. */
  during: Step[]
  pgbench: boolean
  /** A transaction is prepared before the backup, and committed after it was compared. */
  prepared: boolean
  delta: boolean
}

export interface ChaosPlan {
  seed: number
  ground: Ground
  furnishing: Step[]
  /** The first one is full. */
  links: Link[]
}

const MOST_LINKS = 7

/** Everything that happens to one cluster, drawn from a seed. Pure. @param major the server's version, such as 17 */
export function drawPlan(seed: number, major: number): ChaosPlan {
  const chance = new Chance(seed)
  const ground = drawGround(chance, major)
  const world = emptyWorld(major, ground)
  const tables = [3, 2, 1]
  const furnishing = world.databases.flatMap((database, at) => furnish(chance, database, world, tables[at]!))
  return { seed, ground, furnishing, links: drawLinks(chance, world, ground) }
}

function drawGround(chance: Chance, major: number): Ground {
  const checksums = happens(chance, 75)
  return {
    checksums,
    walLogHints: checksums || happens(chance, 50),
    walSegmentMegabytes: happens(chance, 50) ? 1 : 16,
    sharedBuffers: pick(chance, ['1MB', '8MB', '32MB']),
    summarize: major >= 17 && happens(chance, 80),
    tablespaces: happens(chance, 50) ? ['ts1'] : ['ts1', 'ts2'],
    encrypted: happens(chance, 20),
    codec: pick(chance, ['zstd:1', 'zstd:1', 'gzip:1', 'none']),
  }
}

function emptyWorld(major: number, ground: Ground): World {
  const database = (name: string, spread: boolean): Database => ({
    name,
    spread,
    tables: [],
    namesGiven: 0,
    largeObjects: [],
    tablespace: 'pg_default',
    hasView: false,
  })
  return {
    major,
    tablespaces: ['pg_default', ...ground.tablespaces],
    databases: [database('postgres', true), database('second', true), database('third', false)],
    databasesMade: 0,
    largeObjectsMade: 0,
  }
}

function drawLinks(chance: Chance, begin: World, ground: Ground): Link[] {
  const { major } = begin
  let world = begin
  /** What the standby that lags behind knows. */
  let known: World | undefined
  const links: Link[] = [drawLink(chance, world, ground, 'full')]
  // The lower of two: most corruption needs two or three links, and each costs seconds.
  const count = Math.min(between(chance, 1, MOST_LINKS), between(chance, 2, MOST_LINKS))
  while (links.length <= count) {
    const failover = drawFailover(chance, known !== undefined)
    if (failover === 'lagging standby') world = known!
    known = undefined
    const spare = happens(chance, 10)
    if (spare) known = structuredClone(world)
    const type = pick(chance, [
      'incr',
      'incr',
      'incr',
      'incr',
      'incr',
      'incr',
      'diff',
      'diff',
      'diff',
      'full',
    ] as const)
    const link = drawLink(chance, world, ground, type)
    // Before 17 the server knows whole backups only.
    if (major < 17 && type !== 'full') link.method = 'files'
    links.push({ ...link, spare, ...(failover ? { failover } : {}) })
  }
  return links
}

function drawFailover(chance: Chance, hasSpare: boolean): Failover | undefined {
  if (hasSpare) return 'lagging standby'
  if (happens(chance, 88)) return undefined
  return pick(chance, ['in place', 'restored standby'])
}

function drawLink(chance: Chance, world: World, ground: Ground, type: Link['type']): Link {
  const steps = drawSteps(chance, world, Math.ceil(12 * chance.next() ** 2), ground)
  const busy = happens(chance, 30)
  const during = busy ? drawSteps(chance, world, between(chance, 1, 6), undefined) : []
  return {
    spare: false,
    steps,
    method: happens(chance, 30) ? 'stream' : 'files',
    type,
    jobs: between(chance, 1, 3),
    checkpoint: happens(chance, 90) ? 'fast' : 'spread',
    during,
    pgbench: busy && happens(chance, 60),
    prepared: happens(chance, 10),
    delta: happens(chance, 30),
  }
}

/** @param ground undefined while a backup runs: the server stays up then */
function drawSteps(chance: Chance, world: World, count: number, ground: Ground | undefined): Step[] {
  return Array.from({ length: count }, () => {
    const dice = chance.below(100)
    if (dice < 10) return { kind: 'sql', database: 'postgres', statements: ['CHECKPOINT'] }
    if (dice < 28) return drawDatabaseStep(chance, world, ground === undefined)
    if (dice < 33 && ground)
      return { kind: 'server', what: pick(chance, ['kill -9', 'immediate restart', 'fast restart']) }
    if (dice < 35 && ground?.summarize)
      return { kind: 'summaries', what: pick(chance, ['lose all', 'lose one']) }
    if (dice < 37 && ground?.summarize) {
      const set = `ALTER SYSTEM SET summarize_wal = ${pick(chance, ['on', 'off'])}`
      return { kind: 'sql', database: 'postgres', statements: [set, 'SELECT pg_reload_conf()'] }
    }
    return drawTableStep(chance, pick(chance, world.databases), world)
  })
}

/** A plan for people who look for the cause of a failure. @param upTo only so many links */
export function planText(plan: ChaosPlan, upTo = plan.links.length): string {
  const lines = plan.links
    .slice(0, upTo)
    .flatMap(({ steps, during, ...link }, at) => [
      `link ${at}: ${JSON.stringify(link)}`,
      ...steps.map((step) => `    ${textOf(step)}`),
      ...during.map((step) => `    (while it runs) ${textOf(step)}`),
    ])
  return [
    `seed ${plan.seed}: ${JSON.stringify(plan.ground)}`,
    ...plan.furnishing.map((step) => `    ${textOf(step)}`),
    ...lines,
  ].join('\n')
}
