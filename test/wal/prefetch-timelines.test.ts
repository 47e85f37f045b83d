import { expect, test } from 'vitest'
import { backUp, restoreTo } from '../backup/commands.ts'
import type { Cluster } from '../lab/cluster.ts'
import { Lab } from '../lab/lab.ts'
import { poll } from '../lab/poll.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { isSwept, prefetchersOf } from './prefetch-watch.ts'

const BEFORE = 15
const AFTER = 15

test.skipIf(!findPrograms() && !process.env.CI)(
  'a recovery with prefetching follows the timeline that it is on, and not the one that was left',
  async (context) => {
    requireServer(context)
    await using lab = await Lab.create({ initdb: ['--wal-segsize=1'] })
    const { cluster } = lab
    await cluster.sql('CREATE TABLE steps (what text)')
    await backUp(lab)
    await takeSteps(cluster, 'common', BEFORE)
    const [row] = await cluster.sql<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn')
    // What is on timeline 1 from here on is not to come back.
    await takeSteps(cluster, 'lost', AFTER)
    await cluster.archiveWal()
    await cluster.stop()

    const target = ['--lsn', row!.lsn, '--target-action', 'promote']
    const successor = await lab.adopt(await restoreTo(lab, 'successor', target))
    await successor.start()
    await successor.waitForPromotion()
    await poll(() => isSwept(successor.dataDirectory), { what: 'the end of the prefetching' })
    await takeSteps(successor, 'kept', AFTER)
    await successor.archiveWal()

    const server = await lab.adopt(await restoreTo(lab, 'latest'), { settings: { archive_mode: 'off' } })
    await server.start({ until: 'launched' })
    await poll(() => prefetchersOf(server.dataDirectory).length > 0, { what: 'a prefetcher', everyMs: 5 })
    await server.waitForPromotion()
    expect(
      await server.sql('SELECT what, count(*)::int AS n FROM steps GROUP BY what ORDER BY what'),
    ).toEqual([
      { what: 'common', n: BEFORE },
      { what: 'kept', n: AFTER },
    ])
    expect(server.logText()).toMatch(/restored log file "00000002\w{16}" from archive/)
    await poll(() => isSwept(server.dataDirectory), { what: 'the end of the prefetching' })
  },
)

async function takeSteps(cluster: Cluster, what: string, count: number): Promise<void> {
  for (let n = 0; n < count; n++) {
    await cluster.sql(`INSERT INTO steps VALUES ('${what}'); SELECT pg_switch_wal()`)
  }
}
