import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { copyFile, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { receivingKey } from '../../src/catalog/layout.ts'
import { clearReady, sweepReady } from '../../src/wal/ready-segments.ts'
import { READY } from '../../src/wal/spool.ts'
import { decodeWalFile } from '../../src/wal/stored-file.ts'
import { restoreTo } from '../backup/commands.ts'
import { SmallDisk } from '../crash/small-disk.ts'
import type { Cluster } from '../lab/cluster.ts'
import type { Lab } from '../lab/lab.ts'
import { poll } from '../lab/poll.ts'
import { isAlive } from '../lab/processes.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { asLabUser, giveToLabUser } from '../lab/user.ts'
import { type ArchivedSteps, archiveSteps, touchConfiguration } from './archived-steps.ts'
import { isAnyComing, isSwept, prefetchersOf, readySegments, reportsOf, startsOf } from './prefetch-watch.ts'
import { objectOf } from './segments.ts'

/** Where the recovery stands still: we ask for what it would ask next. */
const PAUSED_AT = 4
const SEGMENTS = 24

let archive: ArchivedSteps
let lab: Lab
/** A server that has paused its recovery, with a prefetcher beside it. */
let paused: Cluster
let directory: string

describe.skipIf(!findPrograms() && !process.env.CI)('what is ready for a recovery', () => {
  beforeAll(async () => {
    archive = await archiveSteps(SEGMENTS)
    lab = archive.lab
    paused = await startPaused('paused')
    directory = paused.dataDirectory
  })
  beforeEach(async (context) => {
    requireServer(context)
    await archive.configure()
    await truncate(archive.logFile)
    // A segment that nobody has made ready makes the next ones ready.
    await clearReady(directory)
    await poll(() => prefetchersOf(directory).length === 0, { what: 'the end of the earlier one' })
    await ask(step(PAUSED_AT + 1))
    await untilAllReady()
    await truncate(archive.logFile)
  })
  afterAll(() => lab?.[Symbol.asyncDispose]())

  /** The segment of the nth step. */
  const step = (n: number) => archive.steps[n - 1]!.segment
  const inReady = (name: string) => join(directory, READY, name)
  const nodeStarts = () => startsOf(archive.logFile, 'wal-fetch').length
  const prefetcher = () => prefetchersOf(directory)[0]

  async function startPaused(name: string): Promise<Cluster> {
    const target = ['--lsn', archive.steps[PAUSED_AT - 1]!.lsn, '--target-action', 'pause']
    const server = await lab.adopt(await restoreTo(lab, name, target), { settings: { archive_mode: 'off' } })
    await server.start()
    await server.waitForPaused()
    return server
  }

  const untilAllReady = () =>
    poll(() => readySegments(directory).includes(archive.last) && !isAnyComing(directory), {
      what: 'the segments up to the last one',
    })

  /** As the server asks. @returns whether it got the bytes that are archived */
  async function ask(name: string, more: string[] = [], cwd = directory): Promise<boolean> {
    const got = join(cwd, 'pg_wal', 'ASKED')
    const { exitCode } = await lab.pgrecall([...more, 'wal-fetch', name, 'pg_wal/ASKED'], { cwd })
    expect(exitCode).toBe(0)
    const bytes = await readFile(got)
    await rm(got)
    return bytes.equals(decodeWalFile(await readFile(objectOf(lab, name))))
  }

  /** What nobody may be served. */
  async function spoil(name: string): Promise<void> {
    const { length } = await readFile(inReady(name))
    await writeFile(inReady(name), randomBytes(length))
  }

  test('is handed over by the launcher, with the bytes of the archive', async () => {
    for (let n = PAUSED_AT + 2; n <= SEGMENTS; n++) expect(await ask(step(n))).toBe(true)
    expect(await ask(archive.last)).toBe(true)
    expect(nodeStarts()).toBe(0)
    await poll(() => isSwept(directory), { what: 'the end of the prefetching' })
    expect(reportsOf(archive.logFile).at(-1)).toMatchObject({ ended: 'the archive ends' })
  })

  test.each<[string, (note: string) => string]>([
    ['from before the machine was started again', (note) => note.replace(/^boot .*/m, 'boot another')],
    ['of an earlier start of the server', (note) => note.replace(/^(server .*)$/m, '$11')],
    ['of another call', (note) => note.replace(/^call (.*)$/m, 'call $1|--cluster|other')],
    ['of another configuration', (note) => note.replace(/^config \S+/m, 'config 1-1')],
    ['that is not whole', (note) => note.replace(/^end\n/m, '')],
    ['that is empty', () => ''],
    ['with a line that nobody knows', (note) => `moon full\n${note}`],
  ])('is not believed with a note %s', async (_what, change) => {
    const name = step(PAUSED_AT + 2)
    const note = await readFile(inReady(`${name}.note`), 'utf8')
    expect(change(note)).not.toBe(note)
    await writeFile(inReady(`${name}.note`), change(note))
    await spoil(name)
    expect(await ask(name)).toBe(true)
    expect(nodeStarts()).toBe(1)
  })

  test('is believed by its note alone', async () => {
    await spoil(step(PAUSED_AT + 2))
    expect(await ask(step(PAUSED_AT + 2))).toBe(false)
  })

  test('is not believed without a note', async () => {
    await rm(inReady(`${step(PAUSED_AT + 2)}.note`))
    await spoil(step(PAUSED_AT + 2))
    expect(await ask(step(PAUSED_AT + 2))).toBe(true)
  })

  test.each<[string, () => Promise<void>, string[]]>([
    ['the configuration was changed', () => touchConfiguration(lab), []],
    ['the call is another one', async () => {}, ['--cluster', 'main']],
  ])('is given up when %s, and made ready anew', async (_what, change, more) => {
    const before = prefetcher()!
    await change()
    for (let n = PAUSED_AT + 2; n <= SEGMENTS; n++) await spoil(step(n))
    expect(await ask(step(PAUSED_AT + 2), more)).toBe(true)
    await untilAllReady()
    expect(nodeStarts()).toBe(1)
    expect(await ask(step(PAUSED_AT + 3), more)).toBe(true)
    expect(nodeStarts()).toBe(1)
    expect(prefetchersOf(directory)).not.toContain(before)
  })

  test('is given up when prefetching is turned off', async () => {
    await archive.configure(({ clusters }) => {
      clusters.main!.wal = { prefetch: 0 }
    })
    expect(await ask(step(PAUSED_AT + 2))).toBe(true)
    await poll(() => isSwept(directory), { what: 'the end of the prefetching' })
  })

  test('of a killed prefetcher is replaced by that of another', async () => {
    const before = prefetcher()!
    process.kill(before, 'SIGKILL')
    await poll(() => !isAlive(before), { what: 'its end' })
    for (let n = PAUSED_AT + 3; n <= SEGMENTS; n++) await spoil(step(n))
    await rm(inReady(step(PAUSED_AT + 2)))
    expect(await ask(step(PAUSED_AT + 2))).toBe(true)
    await untilAllReady()
    for (let n = PAUSED_AT + 3; n <= SEGMENTS; n++) expect(await ask(step(n))).toBe(true)
    expect(nodeStarts()).toBe(1)
  })

  test('of a stopped prefetcher is replaced by that of another, and that one ends', async () => {
    const before = prefetcher()!
    process.kill(before, 'SIGSTOP')
    await rm(inReady(step(PAUSED_AT + 2)))
    expect(await ask(step(PAUSED_AT + 2))).toBe(true)
    expect(isAlive(before)).toBe(false)
    await untilAllReady()
    expect(prefetchersOf(directory)).toHaveLength(1)
  })

  test('is neither added to nor removed by one that was stopped while another was appointed', async () => {
    const before = prefetcher()!
    process.kill(before, 'SIGSTOP')
    const appointed = join(directory, READY, 'prefetcher.json')
    const text = await readFile(appointed, 'utf8')
    await writeFile(appointed, text.replace(`"pid":${before}`, `"pid":${process.pid}`))
    // Far enough back for it to have something to do.
    await writeFile(inReady('position'), `${step(1)} 1`)
    const ready = readySegments(directory)
    process.kill(before, 'SIGCONT')
    await poll(() => !isAlive(before), { what: 'its end' })
    expect(readySegments(directory)).toEqual(ready)
    expect(reportsOf(archive.logFile).at(-1)).toMatchObject({ ended: 'it is not the appointed one any more' })
  })

  test('takes a part of the free space only', async (context) => {
    const folder = join(directory, 'pg_wal', 'pgrecall')
    process.kill(prefetcher()!, 'SIGTERM')
    await poll(() => isSwept(directory), { what: 'the end of the prefetching' })
    await using disk = await SmallDisk.mount(folder, 17)
    if (!disk) return context.skip('only root can mount here')
    await ask(step(PAUSED_AT + 1))
    await poll(() => readySegments(directory).length === 4, { what: 'a quarter of the disk' })
    await disk.fill()
    await poll(() => readySegments(directory).length === 1, { what: 'a quarter of what it has itself' })
    await disk.fill()
    await poll(() => isSwept(directory), { what: 'the end of the prefetching' })
    expect(await ask(step(PAUSED_AT + 2))).toBe(true)
    expect(readySegments(directory)).toEqual([])
  })

  test('is what lies before a damaged segment, which the call for it tells', async () => {
    const object = objectOf(lab, step(SEGMENTS))
    await rename(object, `${object}.aside`)
    await copyFile(objectOf(lab, step(1)), object)
    try {
      await touchConfiguration(lab)
      expect(await ask(step(SEGMENTS - 2))).toBe(true)
      await poll(() => readySegments(directory).length > 0, { what: 'the segment before it' })
      expect(await ask(step(SEGMENTS - 1))).toBe(true)
      await poll(() => isSwept(directory), { what: 'the end of the prefetching' })
      expect(reportsOf(archive.logFile).at(-1)!.ended).toContain(step(SEGMENTS))
      const answer = await lab.pgrecall(['wal-fetch', step(SEGMENTS), 'pg_wal/ASKED'], { cwd: directory })
      expect(answer.exitCode).toBe(200)
    } finally {
      await rename(`${object}.aside`, object)
    }
  })

  test('is never a segment that is still being received', async () => {
    const whole = objectOf(lab, archive.last)
    const receiving = join(lab.repository, receivingKey('main', archive.last))
    await rename(whole, receiving)
    try {
      await touchConfiguration(lab)
      expect(await ask(step(SEGMENTS - 1))).toBe(true)
      await poll(() => readySegments(directory).length > 0, { what: 'the last whole segment' })
      expect(await ask(step(SEGMENTS))).toBe(true)
      await poll(() => isSwept(directory), { what: 'the end of the prefetching' })
      expect(reportsOf(archive.logFile).at(-1)).toEqual({ segments: 1, ended: 'the archive ends' })
    } finally {
      await rename(receiving, whole)
    }
  })

  test('follows a recovery that jumps, and gives nothing of one timeline for another', async () => {
    expect(await ask(step(SEGMENTS - 3))).toBe(true)
    await poll(() => !readySegments(directory).includes(step(SEGMENTS - 4)), { what: 'what is passed to go' })
    await rm(inReady(step(SEGMENTS - 2)), { force: true })
    expect(await ask(step(2))).toBe(true)
    await poll(() => readySegments(directory).includes(step(3)), { what: 'the third segment' })
    const ofAnother = `00000002${step(5).slice(8)}`
    const answer = await lab.pgrecall(['wal-fetch', ofAnother, 'pg_wal/ASKED'], { cwd: directory })
    expect(answer.exitCode).toBe(1)
    expect(existsSync(join(directory, 'pg_wal', 'ASKED'))).toBe(false)
  })

  test('is nothing to a copy of the directory', async () => {
    // As the restored server's restore_command calls it.
    await ask(step(PAUSED_AT + 2), ['--cluster', 'main', '--repository', 'local'])
    await untilAllReady()
    await truncate(archive.logFile)
    const copy = join(lab.scratch.path, 'copy')
    await promisify(execFile)('cp', ['-a', directory, copy], asLabUser)
    await rm(join(copy, 'postmaster.pid'))
    // Also what it asks for first, before anything could have been swept.
    const asked = /restored log file "(\w{24})"/.exec(paused.logText())![1]!
    const note = await readFile(inReady(`${step(SEGMENTS)}.note`))
    await writeFile(join(copy, READY, `${asked}.note`), note)
    for (const name of [asked, ...readySegments(copy)]) {
      await writeFile(join(copy, READY, name), randomBytes(1024 * 1024))
      await giveToLabUser(join(copy, READY, name))
    }
    const server = await lab.adopt(copy, {
      settings: { archive_mode: 'off', recovery_target_lsn: '', recovery_target_timeline: 'latest' },
    })
    await server.start()
    await server.waitForPromotion()
    expect(await server.sql('SELECT count(*)::int AS n FROM steps')).toEqual([{ n: SEGMENTS }])
    await poll(() => isSwept(copy), { what: 'the end of the prefetching' })
    expect(startsOf(archive.logFile, 'wal-fetch').map((words) => words.at(-2))).toContain(asked)
    // That of the original is still its own.
    expect(prefetchersOf(directory)).toHaveLength(1)
    expect(readySegments(directory)).toHaveLength(SEGMENTS - PAUSED_AT - 1)
  })

  test('is swept once no server recovers, and not before', async () => {
    await sweepReady(directory)
    expect(readySegments(directory)).toHaveLength(SEGMENTS - PAUSED_AT)
    const another = await startPaused('another')
    await ask(step(PAUSED_AT + 1), [], another.dataDirectory)
    const pid = await poll(() => prefetchersOf(another.dataDirectory)[0], { what: 'a prefetcher' })
    process.kill(pid, 'SIGKILL')
    await another.stop()
    expect(existsSync(join(another.dataDirectory, READY))).toBe(true)
    await sweepReady(another.dataDirectory)
    expect(existsSync(join(another.dataDirectory, READY))).toBe(false)
  })
})
