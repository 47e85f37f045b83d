import { rename } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { backUp, restoreTo } from '../backup/commands.ts'
import type { Cluster } from '../lab/cluster.ts'
import { Lab } from '../lab/lab.ts'
import { poll } from '../lab/poll.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { isSwept } from './prefetch-watch.ts'

const EACH = 20

test.skipIf(!findPrograms() && !process.env.CI)(
  'a standby survives that its repository goes away, and catches up when it is back',
  async (context) => {
    requireServer(context)
    await using lab = await Lab.create({ initdb: ['--wal-segsize=1'] })
    const { cluster } = lab
    await cluster.sql('CREATE TABLE steps (n int)')
    await backUp(lab)
    await takeSteps(cluster, 1)
    await cluster.archiveWal()
    // It asks for what is missing every 200 ms instead of every 5 s.
    const directory = await restoreTo(lab, 'standby', ['--standby'])
    const settings = { archive_mode: 'off', wal_retrieve_retry_interval: '200ms', primary_conninfo: '' }
    const standby = await lab.adopt(directory, { settings })
    await standby.start()
    await standby.waitUntil(`(SELECT count(*) FROM steps) = ${EACH}`)

    await rename(lab.repository, `${lab.repository}.unmounted`)
    await poll(() => standby.logText().split('holds nothing of cluster "main"').length > 3, {
      what: 'the standby to ask again and again',
    })
    expect(standby.isRunning).toBe(true)
    expect(await standby.sql('SELECT count(*)::int AS n FROM steps')).toEqual([{ n: EACH }])
    await poll(() => isSwept(standby.dataDirectory), { what: 'the end of the prefetching' })

    // The primary goes on, and archives nothing meanwhile.
    await takeSteps(cluster, EACH + 1)
    await rename(`${lab.repository}.unmounted`, lab.repository)
    await cluster.archiveWal()
    await standby.waitUntil(`(SELECT count(*) FROM steps) = ${2 * EACH}`)
    expect(await standby.sql('SELECT pg_is_in_recovery() AS recovers')).toEqual([{ recovers: true }])

    await standby.sql('SELECT pg_promote()')
    await standby.waitForPromotion()
    expect(await standby.sql('SELECT max(n) AS n FROM steps')).toEqual([{ n: 2 * EACH }])
    await poll(() => isSwept(standby.dataDirectory), { what: 'the end of the prefetching' })
  },
)

async function takeSteps(cluster: Cluster, first: number): Promise<void> {
  for (let n = first; n < first + EACH; n++) {
    await cluster.sql(`INSERT INTO steps VALUES (${n}); SELECT pg_switch_wal()`)
  }
}
