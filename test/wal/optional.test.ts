import { existsSync } from 'node:fs'
import { readdir, rename, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { walKey } from '../../src/catalog/layout.ts'
import { Lab, type LabConfiguration } from '../lab/lab.ts'
import { poll } from '../lab/poll.ts'
import type { RunResult } from '../lab/product.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { folderOf, Receiver, receivingLab, takeAway } from './receive-lab.ts'
import { finishSegment, SMALL_SEGMENTS } from './segments.ts'

const OFFSITE_OPTIONAL = ['local', { name: 'offsite', required: false }]

function withOptional({ clusters }: LabConfiguration): void {
  clusters.main!.repositories = OFFSITE_OPTIONAL
}

function withOptionalAndLog(configuration: LabConfiguration): void {
  withOptional(configuration)
  configuration.log = { level: 'debug' }
}

/** Two folders, of which the second is optional. */
const TWO = { repositories: { local: 'local', offsite: 'local' }, configure: withOptional } as const

describe.skipIf(!findPrograms() && !process.env.CI)('an optional repository', () => {
  let lab: Lab
  let offsite: string
  let segments: string[]

  beforeAll(async () => {
    // Everything waits for the test to archive it.
    const settings = { ...SMALL_SEGMENTS.settings, archive_mode: true, archive_command: 'false' }
    lab = await Lab.create({ ...SMALL_SEGMENTS, settings, ...TWO, encrypted: true })
    offsite = String(lab.repositories.offsite!.configuration.path)
  })
  beforeEach(async (context) => {
    requireServer(context)
    await lab.writeConfiguration(withOptionalAndLog)
    segments = []
    for (let n = 0; n < 6; n++) segments.push(await finishSegment(lab))
  })
  afterAll(() => lab?.[Symbol.asyncDispose]())

  const push = (name: string, timeoutMs = 120_000) =>
    lab.pgrecall(['wal-push', `pg_wal/${name}`], { cwd: lab.cluster.dataDirectory, timeoutMs })
  const objectOf = (repository: string, name: string) => join(repository, walKey('main', name, 'sealed'))
  const has = (repository: string, name: string) => existsSync(objectOf(repository, name))
  const warningsOf = ({ stderr }: RunResult) => stderr.split('\n').filter((line) => /^warning:/.test(line))
  /** Answered without Node, which at this level tells of each call. */
  const isFast = ({ exitCode, stderr }: RunResult) => exitCode === 0 && !stderr.includes('DEBUG')

  test('that is away lets archiving go on, with one warning for all that it lacks', async () => {
    await rename(offsite, `${offsite}.unmounted`)
    const pushed = await push(segments[0]!)
    expect(pushed.exitCode).toBe(0)
    expect(warningsOf(pushed)).toEqual([
      expect.stringMatching(
        /the optional repository "offsite" lacks \d+ files, .*offsite is not a repository; "pgrecall copy" brings it later/,
      ),
    ])
    for (const name of segments) expect(has(lab.repository, name)).toBe(true)
    // What was archived along is noted: the launcher answers for it, as long as the required repository has it.
    expect(isFast(pushed)).toBe(false)
    for (const name of segments.slice(1)) expect(isFast(await push(name))).toBe(true)
    await rm(objectOf(lab.repository, segments[1]!))
    expect(isFast(await push(segments[1]!))).toBe(false)
    expect(has(lab.repository, segments[1]!)).toBe(true)

    await rename(`${offsite}.unmounted`, offsite)
    const next = await finishSegment(lab)
    const again = await push(next)
    expect(again.exitCode).toBe(0)
    expect(warningsOf(again)).toEqual([])
    expect(has(offsite, next)).toBe(true)
  })

  test('has what a fetch needs when the required one is away', async () => {
    expect((await push(segments[0]!)).exitCode).toBe(0)
    expect(has(offsite, segments[0]!)).toBe(true)
    const giveBack = await takeAway(lab.repository)
    try {
      const target = join(lab.scratch.path, `fetched-${segments[0]}`)
      expect((await lab.pgrecall(['wal-fetch', segments[0]!, target])).exitCode).toBe(0)
      expect((await push(await finishSegment(lab))).exitCode).toBe(7)
    } finally {
      await giveBack()
    }
  })

  test.each([
    ['refuses', false],
    ['accepts and never answers', true],
  ])('in a bucket whose store %s lets the call end', async (_how, accepts) => {
    const silent = createServer()
    silent.listen(0, '127.0.0.1')
    await new Promise((resolve) => silent.once('listening', resolve))
    const { port } = silent.address() as { port: number }
    if (!accepts) await new Promise((resolve) => silent.close(resolve))
    try {
      await lab.writeConfiguration((configuration) => {
        withOptionalAndLog(configuration)
        configuration.repositories.offsite = {
          type: 's3',
          bucket: 'backups',
          endpoint: `http://127.0.0.1:${port}`,
          forcePathStyle: true,
          credentialsFile: join(lab.scratch.path, 'credentials'),
        }
      })
      await lab.scratch.file(
        'credentials',
        '[default]\naws_access_key_id = key\naws_secret_access_key = secret\n',
      )
      // The store itself would be asked again for minutes.
      const pushed = await push(segments[0]!, 60_000)
      expect(pushed).toMatchObject({ exitCode: 0, stderr: expect.stringContaining('"offsite" lacks') })
      for (const name of segments) expect(has(lab.repository, name)).toBe(true)
    } finally {
      silent.close()
    }
  })
})

test.skipIf(!findPrograms() && !process.env.CI)(
  'wal-receive keeps nothing for an optional repository that is away, and tells what it lacks',
  async (context) => {
    requireServer(context)
    await using lab = await receivingLab(TWO)
    const offsite = String(lab.repositories.offsite!.configuration.path)
    await using receiver = await Receiver.start(lab)
    const first = await finishSegment(lab)
    await poll(() => existsSync(join(offsite, walKey('main', first))), { what: 'the first one to arrive' })
    const giveBack = await takeAway(offsite)
    const segments = [await finishSegment(lab), await finishSegment(lab), await finishSegment(lab)]
    await receiver.says(/WAL cannot be stored in the optional repository "offsite"/)
    const inFolder = async (name: string) => (await readdir(folderOf(lab))).includes(name)
    await poll(async () => !(await inFolder(segments[0]!)) && !(await inFolder(segments[1]!)), {
      what: 'the folder to be emptied',
      timeoutMs: 60_000,
    })
    for (const name of segments.slice(0, 2))
      expect(existsSync(join(lab.repository, walKey('main', name)))).toBe(true)
    await giveBack()
    await receiver.says(/Repository "offsite" can be written again; it lacks \d files/)
    const next = await finishSegment(lab)
    await poll(() => existsSync(join(offsite, walKey('main', next))), { what: 'the next one to arrive' })
    expect(await receiver.stop()).toMatchObject({ exitCode: 0 })
  },
)
