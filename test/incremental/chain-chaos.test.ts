import { describe, expect, test } from 'vitest'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import { findPrograms } from '../lab/programs.ts'
import { ChainRun } from './chain-run.ts'
import { type ChaosPlan, drawPlan, planText } from './chaos-plan.ts'

const SECONDS_PER_LINK = 90

describe.skipIf(!findPrograms() && !process.env.CI)(
  'a chain of backups has what the server had, after each link',
  () => {
    test.each(seeds())('seed %i', { timeout: 8 * SECONDS_PER_LINK * 1000 }, async (seed) => {
      await carryOut(drawPlan(seed, findPrograms()!.major))
    })
  },
)

/**
 * `PGRECALL_CHAIN_SEEDS=1,2,3`, or `PGRECALL_CHAIN_ROUNDS` of them from `PGRECALL_CHAIN_SEED` on. Without these, the same
 * few in every run: a chain that nobody has seen before is looked for by hand, not by whoever changes something else.
 */
function seeds(): number[] {
  const { PGRECALL_CHAIN_SEEDS, PGRECALL_CHAIN_SEED, PGRECALL_CHAIN_ROUNDS } = process.env
  if (PGRECALL_CHAIN_SEEDS) return PGRECALL_CHAIN_SEEDS.split(',').map(Number)
  const first = Number(PGRECALL_CHAIN_SEED ?? 1)
  return Array.from({ length: Number(PGRECALL_CHAIN_ROUNDS ?? 3) }, (_, at) => first + at)
}

async function carryOut(plan: ChaosPlan): Promise<void> {
  console.info(`PGRECALL_CHAIN_SEEDS=${plan.seed} repeats this chain of ${plan.links.length} backups`)
  await using run = await ChainRun.begin(plan)
  for (const at of plan.links.keys()) {
    const problems = await run.link(at).catch((error: Error) => [error.message])
    if (problems.length === 0) continue
    const kept = process.env.PGRECALL_KEEP ? `\nkept: ${(await run.keep()).join(', ')}` : ''
    const story = [...problems, '', planText(plan, at + 1), '', ...run.records.map(wordsOf)].join('\n')
    expect.fail(`link ${at} of seed ${plan.seed} is wrong:\n${story}${kept}`)
  }
  console.info(run.records.map(wordsOf).join('\n'))
}

/** What a link turned out to be, which is not always what was asked for. */
function wordsOf({ id, method, parent, increment }: BackupRecord): string {
  if (!parent || !increment) return `${id} by ${method}`
  const { source, changedBlocks, reason } = increment
  const why = reason === undefined ? '' : ` (${reason})`
  return `${id} by ${method} upon ${parent.id}: ${changedBlocks} blocks by ${source}${why}`
}
