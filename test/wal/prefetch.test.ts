import { readFileSync } from 'node:fs'
import { truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { restoreTo } from '../backup/commands.ts'
import type { Cluster } from '../lab/cluster.ts'
import type { Lab } from '../lab/lab.ts'
import { poll } from '../lab/poll.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { type ArchivedSteps, archiveSteps } from './archived-steps.ts'
import {
  isSwept,
  openFilesOf,
  pipesOf,
  prefetchersOf,
  readySegments,
  reportsOf,
  startsOf,
} from './prefetch-watch.ts'

const SEGMENTS = 70

let archive: ArchivedSteps
let lab: Lab

describe.skipIf(!findPrograms() && !process.env.CI)('a recovery with prefetching', () => {
  beforeAll(async () => {
    archive = await archiveSteps(SEGMENTS)
    lab = archive.lab
  })
  beforeEach(async (context) => {
    requireServer(context)
    await truncate(archive.logFile)
    await archive.configure()
  })
  afterAll(() => lab?.[Symbol.asyncDispose]())

  async function restored(name: string, args: string[] = []): Promise<Cluster> {
    return lab.adopt(await restoreTo(lab, name, args), { settings: { archive_mode: 'off' } })
  }
  const fetched = (server: Cluster) =>
    server.logText().match(/restored log file "\w{24}" from archive/g)?.length ?? 0
  const prefetcherOf = (server: Cluster) =>
    poll(
      () =>
        readySegments(server.dataDirectory).length > 0 ? prefetchersOf(server.dataDirectory)[0] : undefined,
      {
        what: 'a prefetcher',
        everyMs: 5,
      },
    )
  const madeReady = () => reportsOf(archive.logFile).reduce((sum, { segments }) => sum + segments, 0)

  /** It has opened with every row, and nothing of the prefetching is left. */
  async function expectWhole(server: Cluster, rows = SEGMENTS): Promise<void> {
    await server.waitForPromotion()
    expect(await server.sql('SELECT count(*)::int AS n FROM steps')).toEqual([{ n: rows }])
    await poll(() => isSwept(server.dataDirectory), { what: 'the end of the prefetching' })
  }

  test('takes nearly all segments without starting Node', async () => {
    const server = await restored('whole')
    await server.start()
    await expectWhole(server)
    expect(madeReady()).toBeGreaterThanOrEqual(60)
    expect(startsOf(archive.logFile, 'wal-fetch').length).toBeLessThan(30)
  })

  test('fetches every segment when it is asked for, where that is configured', async () => {
    await archive.configure(({ clusters }) => {
      clusters.main!.wal = { prefetch: 0 }
    })
    const target = ['--lsn', archive.steps[9]!.lsn, '--target-action', 'promote']
    const server = await restored('none', target)
    await server.start()
    await expectWhole(server, 10)
    expect(startsOf(archive.logFile, 'wal-fetch').length).toBeGreaterThan(10)
    expect(startsOf(archive.logFile, 'wal-prefetch')).toEqual([])
  })

  test('goes on when the prefetcher is killed, and when it is killed again', async () => {
    const server = await restored('killed')
    await server.start({ until: 'launched' })
    for (const seen of [5, 25]) {
      await poll(() => fetched(server) >= seen, { what: `segment ${seen}`, everyMs: 5 })
      process.kill(await prefetcherOf(server), 'SIGKILL')
    }
    await expectWhole(server)
  })

  test('goes on when the prefetcher is stopped, and that one ends', async () => {
    const server = await restored('stopped')
    await server.start({ until: 'launched' })
    await poll(() => fetched(server) >= 5, { what: 'the fifth segment', everyMs: 5 })
    const pid = await prefetcherOf(server)
    process.kill(pid, 'SIGSTOP')
    expectNothingOf(server, pid)
    await expectWhole(server)
  })

  test('leaves nothing when the server is killed, and goes on from what that has left', async () => {
    const server = await restored('crashed')
    await server.start({ until: 'launched' })
    await poll(() => fetched(server) >= 10, { what: 'the tenth segment', everyMs: 5 })
    await prefetcherOf(server)
    await server.kill9()
    await poll(() => isSwept(server.dataDirectory), { what: 'the end of the prefetching' })
    await server.start()
    await expectWhole(server)
  })
})

/** A prefetcher has a session of its own, and nothing open that is the server's. */
function expectNothingOf(server: Cluster, pid: number): void {
  // process (name) state parent group session
  const [, , group, session] = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)!.split(' ')
  expect([group, session]).toEqual([String(pid), String(pid)])
  const open = openFilesOf(pid)
  expect([0, 1, 2].map((fd) => open.get(fd))).toEqual(Array(3).fill('/dev/null'))
  const postmaster = readFileSync(join(server.dataDirectory, 'postmaster.pid'), 'utf8').split('\n')[0]
  // Both were born with what this process has.
  const ours = new Set(pipesOf(process.pid))
  const theirs = pipesOf(Number(postmaster)).filter((pipe) => !ours.has(pipe))
  expect(theirs.length).toBeGreaterThan(0)
  expect(pipesOf(pid).filter((pipe) => theirs.includes(pipe))).toEqual([])
  const folders = [join(server.dataDirectory, 'base'), join(server.dataDirectory, 'global'), server.logFile]
  expect([...open.values()].filter((file) => folders.some((folder) => file.startsWith(folder)))).toEqual([])
}
