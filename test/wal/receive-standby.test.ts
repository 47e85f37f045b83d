import { expect, test } from 'vitest'
import { backUp, recover } from '../backup/commands.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { Receiver, receivingLab } from './receive-lab.ts'

test.skipIf(!findPrograms() && !process.env.CI)(
  'a standby that lives on the archive alone replays the growing segment, again and again',
  async (context) => {
    requireServer(context)
    await using lab = await receivingLab()
    const { cluster } = lab
    await cluster.sql('CREATE TABLE steps (n int)')
    await using _receiver = await Receiver.start(lab)
    await backUp(lab, ['--standalone'])
    await cluster.sql('INSERT INTO steps VALUES (1)')
    const standby = await recover(lab, 'standby', ['--standby'], {
      settings: { wal_retrieve_retry_interval: '500ms' },
    })
    const reaches = (n: number) =>
      standby.waitUntil(`EXISTS (SELECT FROM steps WHERE n = ${n})`, { timeoutMs: 60_000 })
    await reaches(1)
    // In the same segment, then over its end, then in the next one.
    for (const n of [2, 3]) {
      await cluster.sql(`INSERT INTO steps VALUES (${n})`)
      await reaches(n)
    }
    await cluster.sql('SELECT pg_switch_wal(); INSERT INTO steps VALUES (4)')
    await reaches(4)
    await cluster.sql('INSERT INTO steps VALUES (5)')
    await reaches(5)
    expect(await standby.sql('SELECT pg_is_in_recovery() AS recovering')).toEqual([{ recovering: true }])
    await cluster.kill9()
    await standby.sql('SELECT pg_promote(false)')
    await standby.waitForPromotion()
    expect(await standby.sql('SELECT max(n) FROM steps')).toEqual([{ max: 5 }])
  },
)
