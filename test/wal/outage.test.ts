import { rename, rm } from 'node:fs/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { restoreTo } from '../backup/commands.ts'
import type { Lab } from '../lab/lab.ts'
import { poll } from '../lab/poll.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { type ArchivedSteps, archiveSteps } from './archived-steps.ts'
import { isSwept } from './prefetch-watch.ts'

/** More than are ever kept ready. */
const SEGMENTS = 100

let archive: ArchivedSteps
let lab: Lab

describe.skipIf(!findPrograms() && !process.env.CI)(
  'a recovery whose repository goes away in the middle',
  () => {
    beforeAll(async () => {
      archive = await archiveSteps(SEGMENTS)
      lab = archive.lab
    })
    beforeEach((context) => void requireServer(context))
    afterAll(() => lab?.[Symbol.asyncDispose]())

    test.each([
      ['without prefetching', '0'],
      ['with prefetching', '256MB'],
    ])('does not open, and goes on when that is back: %s', async (what, prefetch) => {
      await archive.configure(({ clusters }) => {
        clusters.main!.wal = { prefetch }
      })
      // To the end: without a target nothing else tells PostgreSQL that there must be more.
      const directory = await restoreTo(lab, what.replaceAll(' ', '-'))
      const server = await lab.adopt(directory, { settings: { archive_mode: 'off' } })
      const fetched = () => server.logText().match(/restored log file "\w{24}" from archive/g)?.length ?? 0

      await server.start({ until: 'launched' })
      await poll(() => fetched() >= 3, { what: 'the third segment', everyMs: 5 })
      await rename(lab.repository, `${lab.repository}.unmounted`)
      await server.waitForExit()
      expect(fetched()).toBeLessThan(SEGMENTS)
      expect(server.logText()).toContain('holds nothing of cluster "main"')
      expect(server.logText()).not.toContain('archive recovery complete')
      await poll(() => isSwept(directory), { what: 'the end of the prefetching' })

      await rename(`${lab.repository}.unmounted`, lab.repository)
      await server.start()
      await server.waitForPromotion()
      expect(await server.sql('SELECT count(*)::int AS n FROM steps')).toEqual([{ n: SEGMENTS }])
      await poll(() => isSwept(directory), { what: 'the end of the prefetching' })
      await server.stop()
      await rm(directory, { recursive: true })
    })
  },
)
