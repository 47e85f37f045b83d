import { existsSync } from 'node:fs'
import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import { catalogKey, receivingKey, walKey } from '../../src/catalog/layout.ts'
import { answerOf, backUp, failureOf, type RestoreAnswer, recover, restoreTo } from '../backup/commands.ts'
import type { Cluster } from '../lab/cluster.ts'
import { Lab } from '../lab/lab.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'

const TIME = `to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'`

/** A row of the table `steps`, and how the moment right after its commit can be named. */
interface Step {
  /** Of the commit, which is only known afterwards. */
  committed: string
  xid: string
  /** After the commit and before the next one. */
  time: string
  lsn: string
}

let lab: Lab
let first: BackupRecord
let second: BackupRecord
const steps: Step[] = []

describe.skipIf(!findPrograms() && !process.env.CI)('a recovery to a target', () => {
  beforeAll(async () => {
    lab = await Lab.create({ settings: { track_commit_timestamp: true } })
    const { cluster } = lab
    await cluster.sql('CREATE TABLE steps (n int)')
    first = await backUp(lab)
    for (let n = 1; n <= 4; n++) {
      steps.push(await takeStep(cluster, n))
      if (n === 2) second = await backUp(lab)
      if (n === 3) await cluster.sql(`SELECT pg_create_restore_point('after three')`)
    }
    await cluster.archiveWal()
  })
  afterAll(() => lab?.[Symbol.asyncDispose]())
  beforeEach((context) => void requireServer(context))

  test('goes to a time between two commits', async () => {
    const server = await recover(lab, 'time', ['--time', steps[2]!.time, '--target-action', 'promote'])
    await server.waitForPromotion()
    expect(await stepsIn(server)).toEqual([1, 2, 3])
  })

  test('includes the commit at the very time, or excludes it with --exclusive', async () => {
    const at = ['--time', steps[2]!.committed]
    const inclusive = await recover(lab, 'at', at)
    await inclusive.waitForPaused()
    expect(await stepsIn(inclusive)).toEqual([1, 2, 3])
    const exclusive = await recover(lab, 'before', [...at, '--exclusive'])
    await exclusive.waitForPaused()
    expect(await stepsIn(exclusive)).toEqual([1, 2])
  })

  test('goes to an LSN, and pauses there until it is resumed', async () => {
    const server = await recover(lab, 'lsn', ['--lsn', steps[2]!.lsn])
    await server.waitForPaused()
    expect(await stepsIn(server)).toEqual([1, 2, 3])
    await server.sql('SELECT pg_wal_replay_resume()')
    await server.waitForPromotion()
    expect(await stepsIn(server)).toEqual([1, 2, 3])
  })

  test('goes to the end of a transaction, or just before it', async () => {
    const { xid } = steps[2]!
    const inclusive = await recover(lab, 'xid', ['--xid', xid])
    await inclusive.waitForPaused()
    expect(await stepsIn(inclusive)).toEqual([1, 2, 3])
    const exclusive = await recover(lab, 'before-xid', ['--xid', xid, '--exclusive'])
    await exclusive.waitForPaused()
    expect(await stepsIn(exclusive)).toEqual([1, 2])
  })

  test('goes to a restore point and shuts down there', async () => {
    const directory = await restoreTo(lab, 'name', ['--name', 'after three', '--target-action', 'shutdown'])
    const server = await lab.adopt(directory, { settings: { archive_mode: 'off' } })
    await server.start({ until: 'launched' })
    await server.waitForExit()
    expect(server.logText()).toContain('recovery stopping after WAL location')
    expect(server.logText()).toContain('shutdown at recovery target')
    const paused = await recover(lab, 'name-paused', ['--name', 'after three'])
    await paused.waitForPaused()
    expect(await stepsIn(paused)).toEqual([1, 2, 3])
  })

  test('goes to a target right before a hole, and promotes there', async () => {
    const object = join(lab.repository, walKey('main', await segmentOf(steps[3]!.lsn)))
    await rename(object, `${object}.aside`)
    try {
      const server = await recover(lab, 'before-hole', ['--lsn', steps[2]!.lsn, '--target-action', 'promote'])
      await server.waitForPromotion()
      expect(await stepsIn(server)).toEqual([1, 2, 3])
    } finally {
      await rename(`${object}.aside`, object)
    }
  })

  test('stops with --immediate where the backup is consistent', async () => {
    const server = await recover(lab, 'immediate', [first.id, '--immediate', '--target-action', 'promote'])
    await server.waitForPromotion()
    expect(await stepsIn(server)).toEqual([])
  })

  test('begins from the newest backup that ends before the target', async () => {
    const chosen = async (args: string[]) => (await planOf(args)).backup.id
    expect(await chosen(['--time', steps[0]!.time])).toBe(first.id)
    expect(await chosen(['--lsn', steps[0]!.lsn])).toBe(first.id)
    expect(await chosen(['--xid', steps[0]!.xid])).toBe(first.id)
    expect(await chosen(['--time', steps[2]!.time])).toBe(second.id)
    expect(await chosen(['--lsn', steps[2]!.lsn])).toBe(second.id)
    expect(await chosen(['--xid', steps[2]!.xid])).toBe(second.id)
    expect(await chosen(['--name', 'after three'])).toBe(second.id)
    expect(await chosen([])).toBe(second.id)
    const server = await recover(lab, 'older', ['--time', steps[0]!.time])
    await server.waitForPaused()
    expect(await stepsIn(server)).toEqual([1])
  })

  test('begins from a backup as its own record has it, whatever catalog.json remembers', async () => {
    const file = join(lab.repository, catalogKey('main'))
    const text = await readFile(file, 'utf8')
    const catalog = JSON.parse(text)
    for (const { stop } of catalog.backups) Object.assign(stop, { lsn: 'FF/0', time: '2100-01-01T00:00:00Z' })
    await writeFile(file, JSON.stringify(catalog))
    try {
      expect((await planOf(['--lsn', steps[2]!.lsn])).backup.id).toBe(second.id)
      expect((await planOf(['--time', steps[0]!.time])).backup.id).toBe(first.id)
    } finally {
      await writeFile(file, text)
    }
  })

  test('is planned in words and changes nothing with --dry-run, then does what was planned', async () => {
    const directory = join(lab.scratch.path, 'planned')
    const args = ['restore', '--time', steps[1]!.time, '--data-directory', directory]
    const dry = await answerOf<RestoreAnswer>(lab, [...args, '--dry-run'])
    expect(existsSync(directory)).toBe(false)
    expect(dry.dryRun).toBe(true)
    const { stdout } = await lab.pgrecall([...args, '--dry-run'])
    expect(stdout).toContain(first.id)
    expect(stdout).toContain(directory)
    const done = await answerOf<RestoreAnswer>(lab, args)
    expect(done.plan).toEqual(dry.plan)
    const server = await lab.adopt(directory, { settings: { archive_mode: 'off' } })
    await server.start()
    const [setting] = await server.sql<{ line: string }>(
      `SELECT format('recovery_target_time = ''%s''', setting) AS line FROM pg_settings WHERE name = 'recovery_target_time'`,
    )
    expect(dry.plan.settings.lines).toContain(setting!.line)
  })

  describe('is refused before the first byte', () => {
    test.each([
      ['a time before the first backup', () => ['--time', '2020-01-01 00:00:00+00'], () => first.stop.lsn],
      ['a time after the last commit', () => ['--time', '2100-01-01 00:00:00+00'], () => '--lsn'],
      ['an LSN past the end', () => ['--lsn', 'FF/0'], () => '--lsn'],
      ['a transaction that never was', () => ['--xid', '4000000'], () => 'no end in the WAL'],
      ['an unknown restore point', () => ['--name', 'after five'], () => '"after three"'],
      [
        'a target before the end of the backup that is asked for',
        () => [second.id, '--time', steps[0]!.time],
        () => 'leave the id out',
      ],
    ])('when it is %s', async (_what, args, hint) => {
      const directory = join(lab.scratch.path, 'refused')
      const failure = await failureOf(lab, ['restore', ...args(), '--data-directory', directory])
      expect(failure).toMatchObject({ exitCode: 10, kind: 'unreachable' })
      expect(failure.hint).toContain(hint())
      expect(existsSync(directory)).toBe(false)
    })

    test('when it is to stop before something that it does not name', async () => {
      for (const args of [[], ['--immediate'], ['--name', 'after three']]) {
        expect(await failureOf(lab, ['restore', ...args, '--exclusive'])).toMatchObject({
          exitCode: 2,
          kind: 'usage',
        })
      }
    })

    test('when it is after the last commit, with a hint that leads to that commit', async () => {
      const failure = await failureOf(lab, ['restore', '--time', '2100-01-01 00:00:00+00'])
      const [, lsn] = /--lsn ([0-9A-F]+\/[0-9A-F]+)/.exec(failure.hint ?? '') ?? []
      const server = await recover(lab, 'hinted', ['--lsn', lsn!])
      await server.waitForPaused()
      expect(await stepsIn(server)).toEqual([1, 2, 3, 4])
    })

    test('when it is the end, and a segment is being received behind a hole', async () => {
      const newest = await lab.cluster.archiveWal()
      const behind = (count: number) =>
        `${newest.slice(0, -8)}${(Number.parseInt(newest.slice(-8), 16) + count).toString(16).toUpperCase().padStart(8, '0')}`
      const object = join(lab.repository, receivingKey('main', behind(3)))
      await writeFile(object, 'as far as it was received')
      try {
        const failure = await failureOf(lab, ['restore', '-D', join(lab.scratch.path, 'refused')])
        expect(failure).toMatchObject({ exitCode: 10, kind: 'unreachable' })
        expect(failure.message).toContain(`${behind(1)} is missing from the archive`)
        expect((await planOf(['--lsn', steps[3]!.lsn])).backup.id).toBe(second.id)
      } finally {
        await rm(object)
      }
    })

    test('when a segment in the middle is missing, which is named', async () => {
      const name = await segmentOf(steps[1]!.lsn)
      const object = join(lab.repository, walKey('main', name))
      await rename(object, `${object}.aside`)
      try {
        const directory = join(lab.scratch.path, 'refused')
        const ask = (args: string[]) => failureOf(lab, ['restore', ...args, '--data-directory', directory])
        for (const args of [['--time', steps[2]!.time], ['--lsn', steps[2]!.lsn], []]) {
          const failure = await ask([first.id, ...args])
          expect(failure).toMatchObject({ exitCode: 10, kind: 'unreachable' })
          expect(failure.message).toContain(name)
        }
        expect(existsSync(directory)).toBe(false)
        // The second backup lies behind the hole, and whatever is behind that can be had.
        for (const args of [['--name', 'after three'], ['--xid', steps[3]!.xid], []]) {
          expect((await planOf(args)).backup.id).toBe(second.id)
        }
      } finally {
        await rename(`${object}.aside`, object)
      }
    })
  })
})

async function takeStep(cluster: Cluster, n: number): Promise<Step> {
  const [row] = await cluster.sql<{ xid: string }>(
    `INSERT INTO steps VALUES (${n}) RETURNING pg_current_xact_id()::text AS xid`,
  )
  const xid = row!.xid
  const [after] = await cluster.sql<Omit<Step, 'xid'>>(
    `SELECT to_char(pg_xact_commit_timestamp('${xid}'::xid) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00' AS committed,
            ${TIME} AS time, pg_current_wal_insert_lsn()::text AS lsn`,
  )
  // Something that is no commit follows, so that the position is not the end of the WAL.
  await cluster.sql(`SELECT pg_logical_emit_message(false, 'lab', 'between the steps'), pg_switch_wal()`)
  return { ...after!, xid }
}

/** For a place where nothing is. */
async function planOf(args: string[]): Promise<RestoreAnswer['plan']> {
  const directory = join(lab.scratch.path, 'nowhere')
  const answer = await answerOf<RestoreAnswer>(lab, ['restore', '--dry-run', ...args, '-D', directory])
  return answer.plan
}

async function stepsIn(server: Cluster): Promise<number[]> {
  return (await server.sql<{ n: number }>('SELECT n FROM steps ORDER BY n')).map((row) => row.n)
}

async function segmentOf(lsn: string): Promise<string> {
  const [row] = await lab.cluster.sql<{ name: string }>(`SELECT pg_walfile_name('${lsn}') AS name`)
  return row!.name
}
