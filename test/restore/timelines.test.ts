import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { answerOf, backUp, failureOf, recover, restoreTo } from '../backup/commands.ts'
import type { Cluster } from '../lab/cluster.ts'
import { Lab } from '../lab/lab.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { objectOf } from '../wal/segments.ts'

/**
 * Timeline 1: backup, "common", "lost". A recovery to "common" begins timeline 2, on which comes "kept". Timeline 1 goes
 * on meanwhile, as a server does that somebody forgot to stop.
 */
let lab: Lab
let beforeTheSwitch: string
let afterTheSwitch: string
let firstOfTimeline2: string
/** The server of timeline 2. */
let successor: Cluster

describe.skipIf(!findPrograms() && !process.env.CI)('a recovery after a recovery', () => {
  beforeAll(async () => {
    lab = await Lab.create()
    const { cluster } = lab
    await cluster.sql('CREATE TABLE notes (note text)')
    await backUp(lab)
    beforeTheSwitch = await note(cluster, 'common')
    await cluster.archiveWal()
    await note(cluster, 'lost')
    afterTheSwitch = await note(cluster, 'lost too')
    await cluster.archiveWal()

    const directory = await restoreTo(lab, 'second', ['--lsn', beforeTheSwitch, '--target-action', 'promote'])
    const second = await lab.adopt(directory)
    await second.start()
    await second.waitForPromotion()
    await note(second, 'kept')
    firstOfTimeline2 = await second.archiveWal()
    await note(second, 'kept too')
    await second.archiveWal()
    successor = second
  })
  beforeEach((context) => void requireServer(context))
  afterAll(() => lab?.[Symbol.asyncDispose]())

  test('follows the newest timeline by default', async () => {
    const server = await recover(lab, 'latest')
    await server.waitForPromotion()
    expect(await notesIn(server)).toEqual(['common', 'kept', 'kept too'])
  })

  test.each(['1', 'current'])('stays on the old timeline with --target-timeline %s', async (timeline) => {
    const name = `timeline-${timeline}`
    const server = await recover(lab, name, ['--target-timeline', timeline, '--lsn', afterTheSwitch])
    await server.waitForPaused()
    expect(await notesIn(server)).toEqual(['common', 'lost', 'lost too'])
  })

  test('goes to a point of the new timeline by its number', async () => {
    const server = await recover(lab, 'timeline-2', ['--target-timeline', '2'])
    await server.waitForPromotion()
    expect(await notesIn(server)).toEqual(['common', 'kept', 'kept too'])
  })

  test('is refused on a timeline that never was', async () => {
    const failure = await failureOf(lab, [
      'restore',
      '--target-timeline',
      '7',
      '-D',
      `${lab.scratch.path}/no`,
    ])
    expect(failure).toMatchObject({ exitCode: 10, kind: 'unreachable' })
    expect(failure.hint).toContain('newest timeline is 2')
  })

  test('is refused where the new timeline lacks its first segment, which is named', async () => {
    const object = objectOf(lab, firstOfTimeline2)
    await rename(object, `${object}.aside`)
    try {
      const failure = await failureOf(lab, ['restore', '-D', `${lab.scratch.path}/no`])
      expect(failure).toMatchObject({ exitCode: 10, kind: 'unreachable' })
      expect(failure.message).toContain(firstOfTimeline2)
    } finally {
      await rename(`${object}.aside`, object)
    }
  })

  test('stays where there is WAL, when only the history of a newer timeline is archived', async () => {
    // PostgreSQL would take the old timeline's WAL for the new one's, past the point where they parted.
    const segments = join(lab.repository, 'main/wal/00000002/00000000')
    const aside = join(lab.scratch.path, 'aside')
    await rename(segments, aside)
    try {
      const failure = await failureOf(lab, [
        'restore',
        '--target-timeline',
        '2',
        '-D',
        join(lab.scratch.path, 'never'),
      ])
      expect(failure).toMatchObject({ exitCode: 10, kind: 'unreachable' })
      const server = await recover(lab, 'only-history')
      await server.waitForPromotion()
      expect(await notesIn(server)).toEqual(['common', 'lost', 'lost too'])
    } finally {
      await rename(aside, segments)
    }
  })

  test('refuses a backup of the old timeline for the new one, and takes it for its own', async () => {
    // Taken on timeline 1 after timeline 2 left it: no way leads from it to timeline 2.
    const stray = await backUp(lab)
    const directory = `${lab.scratch.path}/none`
    const failure = await failureOf(lab, ['restore', stray.id, '-D', directory])
    expect(failure).toMatchObject({ exitCode: 10, kind: 'unreachable' })
    expect(failure.hint).toContain('--target-timeline current')
    const args = ['restore', stray.id, '--target-timeline', 'current', '--dry-run', '-D', `${directory}-else`]
    expect(await answerOf(lab, args)).toMatchObject({ plan: { timeline: 1, backup: { id: stray.id } } })
  })

  test('begins from a backup of the new timeline, which leads to no other one', async () => {
    await lab.writeConfiguration((configuration) => {
      const { dataDirectory, host, port, user } = successor
      Object.assign(configuration.clusters.main!, { dataDirectory, connection: { host, port, user } })
    })
    const record = await backUp(lab)
    await lab.writeConfiguration()
    expect(record.timeline).toBe(2)
    const position = await note(successor, 'after the backup')
    await successor.archiveWal()
    const server = await recover(lab, 'from-timeline-2', ['--lsn', position])
    await server.waitForPaused()
    expect(server.logText()).toContain(`"${record.start.walFile}"`)
    expect(await notesIn(server)).toEqual(['common', 'kept', 'kept too', 'after the backup'])
    const args = ['restore', record.id, '--target-timeline', '1', '-D', `${lab.scratch.path}/none`]
    expect(await failureOf(lab, args)).toMatchObject({ exitCode: 10 })
  })

  test('feeds a standby that has no primary, from the archive, segment after segment', async () => {
    const standby = await recover(lab, 'standby', ['--standby', '--target-timeline', '1'], {
      settings: { wal_retrieve_retry_interval: '100ms' },
    })
    const { cluster } = lab
    for (const text of ['later', 'later still']) {
      await note(cluster, text)
      await cluster.archiveWal()
      await standby.waitUntil(`EXISTS (SELECT FROM notes WHERE note = '${text}')`)
    }
    expect(await standby.sql('SELECT pg_is_in_recovery() AS recovering')).toEqual([{ recovering: true }])
    await standby.sql('SELECT pg_promote(false)')
    await standby.waitForPromotion()
    expect(await notesIn(standby)).toContain('later still')
  })
})

/** @returns a position after the note, where no later one is */
async function note(server: Cluster, text: string): Promise<string> {
  await server.sql(`INSERT INTO notes VALUES ('${text}')`)
  const [row] = await server.sql<{ lsn: string }>(
    `SELECT pg_logical_emit_message(false, 'lab', 'after the note')::text AS lsn`,
  )
  await server.sql(`SELECT pg_logical_emit_message(false, 'lab', 'so that it is not the end')`)
  return row!.lsn
}

async function notesIn(server: Cluster): Promise<string[]> {
  return (await server.sql<{ note: string }>('SELECT note FROM notes')).map((row) => row.note)
}
