import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import { walKey } from '../../src/catalog/layout.ts'
import type { TimelineWal, WalGap } from '../../src/catalog/wal-ranges.ts'
import type { RetentionPlan } from '../../src/retention/plan.ts'
import type { Finding, RepositoryFacts } from '../../src/status/facts.ts'
import { answerOf, backUp, failureOf, recover } from '../backup/commands.ts'
import { Lab } from '../lab/lab.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'

/** Shorter than any run of these tests: WAL stays from the newest backup on. */
const RULES = ['--full', '9', '--wal', '0.001min']

type Status = RepositoryFacts & { findings: Finding[] }

let lab: Lab
let old: BackupRecord
let newer: BackupRecord

describe.skipIf(!findPrograms() && !process.env.CI)('WAL for a shorter time than the backups', () => {
  beforeAll(async () => {
    lab = await Lab.create({
      initdb: ['--wal-segsize=1'],
      repositories: { local: 'local', offsite: 'local' },
      configure: ({ clusters }) => {
        clusters.main!.repositories = ['local']
      },
    })
    await lab.cluster.sql('CREATE TABLE notes (n int)')
    await lab.cluster.sql('INSERT INTO notes VALUES (1)')
    old = await backUp(lab)
    for (const n of [2, 3, 4]) {
      await lab.cluster.sql(`INSERT INTO notes VALUES (${n})`)
      await lab.cluster.archiveWal()
    }
    newer = await backUp(lab)
    for (const n of [5, 6, 7]) {
      await lab.cluster.sql(`INSERT INTO notes VALUES (${n})`)
      await lab.cluster.archiveWal()
    }
  })
  beforeEach((context) => void requireServer(context))
  afterAll(() => lab?.[Symbol.asyncDispose]())

  const segments = (folder = lab.repository) =>
    readdirSync(join(folder, 'main/wal'), { recursive: true, encoding: 'utf8' })
      .flatMap((file) => /([0-9A-F]{24})\.zst$/.exec(file)?.[1] ?? [])
      .toSorted()
  const status = async (repository: string) => {
    const [found] = await answerOf<Status[]>(lab, ['status', '--repository', repository])
    return found!
  }
  const failures = ({ findings }: Status) => findings.filter(({ severity }) => severity === 'fail')

  test('is thinned out as the dry run has told, and nothing takes what is missing for lost', async () => {
    const before = segments()
    const [{ recovery, wal }] = await answerOf<[RetentionPlan]>(lab, ['retention', ...RULES, '--dry-run'])
    expect(segments()).toEqual(before)
    expect(recovery).toMatchObject([
      { before: [{ from: old.stop.time }], after: [{ from: old.stop.time }, { from: newer.stop.time }] },
    ])
    expect(recovery[0]!.after[0]).not.toHaveProperty('until')
    const [{ removedSegments }] = await answerOf<[{ removedSegments: number }]>(lab, ['retention', ...RULES])
    expect(removedSegments).toBe(wal.reduce((sum, run) => sum + run.segments, 0))
    expect(segments()).toEqual(
      before.filter(
        (name) => (name <= old.stop.walFile && name >= old.start.walFile) || name >= newer.start.walFile,
      ),
    )

    const told = await status('local')
    expect(failures(told)).toEqual([])
    expect(told.gaps).toEqual([])
    expect(told.findings).toContainEqual(
      expect.objectContaining({
        severity: 'ok',
        text: expect.stringContaining(`backup ${old.id} can be restored to its end only`),
      }),
    )
    const [listed] = await answerOf<{ gaps: WalGap[]; wal: TimelineWal[] }[]>(lab, ['list'])
    expect(listed).toMatchObject({ gaps: [], wal: [{ thinnedBefore: newer.start.walFile }] })
    expect((await lab.pgrecall(['list'])).stdout).not.toContain('holes')
    await answerOf(lab, ['verify'])
  })

  test('an older backup is still restored to its end, and no further', async () => {
    const server = await recover(lab, 'old', [old.id, '--immediate', '--target-action', 'promote'])
    await server.waitForPromotion()
    expect(await server.sql('SELECT n FROM notes')).toEqual([{ n: 1 }])
    await server.stop()
    const { kind } = await failureOf(lab, [
      'restore',
      old.id,
      '--data-directory',
      join(lab.scratch.path, 'end'),
    ])
    expect(kind).toBe('unreachable')
  })

  test('a copy brings no more than there is, and is told as just as sound', async () => {
    const { location } = lab.repositories.offsite!.storage
    await answerOf(lab, ['copy', '--to', 'offsite'])
    expect(segments(location)).toEqual(segments())
    expect(failures(await status('offsite'))).toEqual([])
    const [again] = await answerOf<{ copied: { walFiles: number } }[]>(lab, ['copy', '--to', 'offsite'])
    expect(again!.copied.walFiles).toBe(0)
    // What is lost behind the newest backup is lost all the same.
    const lost = segments(location).at(-2)!
    rmSync(join(location, walKey('main', lost)))
    await answerOf(lab, ['catalog', 'rebuild', '--repository', 'offsite'])
    const [listed] = await answerOf<{ gaps: WalGap[] }[]>(lab, ['list', '--repository', 'offsite'])
    expect(listed!.gaps).toMatchObject([{ first: lost, last: lost }])
  })
})
