import { rename } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { backUp, restoreTo } from '../backup/commands.ts'
import { Lab } from '../lab/lab.ts'
import { poll } from '../lab/poll.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'

const SEGMENTS = 30

test.skipIf(!findPrograms() && !process.env.CI)(
  'a recovery whose repository goes away in the middle does not open, and goes on when that is back',
  async (context) => {
    requireServer(context)
    await using lab = await Lab.create({ initdb: ['--wal-segsize=1'] })
    const { cluster } = lab
    await cluster.sql('CREATE TABLE steps (n int)')
    await backUp(lab)
    for (let n = 1; n <= SEGMENTS; n++) {
      await cluster.sql(`INSERT INTO steps VALUES (${n}); SELECT pg_switch_wal()`)
    }
    await cluster.archiveWal()
    // To the end: without a target nothing else tells PostgreSQL that there must be more.
    const server = await lab.adopt(await restoreTo(lab, 'restored'), { settings: { archive_mode: 'off' } })
    const fetched = () => server.logText().match(/restored log file "\w{24}" from archive/g)?.length ?? 0

    await server.start({ until: 'launched' })
    await poll(() => fetched() >= 3, { what: 'the third segment', everyMs: 5 })
    await rename(lab.repository, `${lab.repository}.unmounted`)
    await server.waitForExit()
    expect(fetched()).toBeLessThan(SEGMENTS)
    expect(server.logText()).toContain('holds nothing of cluster "main"')
    expect(server.logText()).not.toContain('archive recovery complete')

    await rename(`${lab.repository}.unmounted`, lab.repository)
    await server.start()
    await server.waitForPromotion()
    expect(await server.sql('SELECT max(n) AS n FROM steps')).toEqual([{ n: SEGMENTS }])
  },
)
