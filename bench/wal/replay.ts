import type { Section } from './sections.ts'
import { plainCopy } from './tools.ts'
import { fillArchives, takeTurns, type Work } from './work.ts'

/** How long a recovery takes through all segments, from the start of its server; `cp` shows what PostgreSQL itself needs. */
export async function measureReplay(work: Work): Promise<Section> {
  const { ground, tools } = work
  await fillArchives(work)
  const plain = await plainCopy(ground)
  const runs = await takeTurns(work, [plain, ...tools], async ({ restoreCommand, forget }, round) => ({
    timed: await ground.replay({ restoreCommand, forget, isProven: round === 1 }),
  }))
  return { runs, calls: [], base: plain.name, segments: ground.segments.length }
}
