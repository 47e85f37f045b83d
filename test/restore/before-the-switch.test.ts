import { rename } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { backUp, restoreTo } from '../backup/commands.ts'
import { Lab } from '../lab/lab.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { objectOf } from '../wal/segments.ts'

test.skipIf(!findPrograms() && !process.env.CI)(
  'a recovery to a later timeline does not open on the old one when the last WAL of that gets lost',
  async (context) => {
    requireServer(context)
    await using lab = await Lab.create({ initdb: ['--wal-segsize=1'] })
    const { cluster } = lab
    await cluster.sql('CREATE TABLE steps (n int)')
    await backUp(lab)
    await cluster.sql('INSERT INTO steps VALUES (1)')
    await cluster.archiveWal()
    await cluster.sql('INSERT INTO steps VALUES (2)')
    const lastOfTimeline1 = await cluster.archiveWal()
    await cluster.kill9()
    const successor = await lab.adopt(await restoreTo(lab, 'successor'))
    await successor.start()
    await successor.waitForPromotion()
    await successor.sql('INSERT INTO steps VALUES (3)')
    await successor.archiveWal()

    const server = await lab.adopt(await restoreTo(lab, 'restored'), { settings: { archive_mode: 'off' } })
    // The plan has seen it; nothing later of the timeline shows afterwards that it was there.
    const object = objectOf(lab, lastOfTimeline1)
    await rename(object, `${object}.aside`)
    await server.start({ until: 'launched' })
    await server.waitForExit()
    expect(server.logText()).toContain(`${lastOfTimeline1} is missing from the archive`)
    expect(server.logText()).not.toContain('archive recovery complete')

    await rename(`${object}.aside`, object)
    await server.start()
    await server.waitForPromotion()
    expect(await server.sql('SELECT n FROM steps ORDER BY n')).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }])
  },
)
