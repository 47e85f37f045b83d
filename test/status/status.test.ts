import { readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { droppedKey, receivingKey } from '../../src/catalog/layout.ts'
import { lsn } from '../../src/postgres/lsn.ts'
import { Server } from '../../src/postgres/server.ts'
import { askServer } from '../../src/status/archiver.ts'
import type { Finding, RepositoryFacts, ServerFacts } from '../../src/status/facts.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { encodeWalFile } from '../../src/wal/stored-file.ts'
import { answerOf, backUp } from '../backup/commands.ts'
import { Lab } from '../lab/lab.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { objectOf } from '../wal/segments.ts'
import { parseExposition } from './exposition.ts'

type Answer = RepositoryFacts & { cluster: string; server: ServerFacts; findings: Finding[] }

let lab: Lab

/** @returns what the first repository's part says, and the exit code */
async function status(
  args: string[] = [],
): Promise<Answer & { exitCode: number | undefined; all: Answer[] }> {
  const { exitCode, stdout, stderr } = await lab.pgrecall(['status', '--json', ...args])
  if (exitCode !== 0 && exitCode !== 12) throw new Error(stderr)
  const all = JSON.parse(stdout) as Answer[]
  return { ...all[0]!, exitCode, all }
}
const texts = ({ findings }: Answer, severity: Finding['severity']) =>
  findings.filter((finding) => finding.severity === severity).map(({ text }) => text)
async function commit(): Promise<{ before: string; after: string }> {
  const now = `to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`
  const [before] = await lab.cluster.sql<{ now: string }>(`SELECT ${now} AS now`)
  await lab.cluster.sql('INSERT INTO notes VALUES (1)')
  const [after] = await lab.cluster.sql<{ now: string }>(`SELECT ${now} AS now`)
  return { before: before!.now, after: after!.now }
}
const statusFolder = () => join(lab.cluster.dataDirectory, 'pg_wal/archive_status')
const readyNames = () => readdirSync(statusFolder()).filter((file) => /^[0-9A-F]{24}\.ready$/.test(file))

/** The tests go on from each other: one cluster through good days and bad ones. */
describe.skipIf(!findPrograms() && !process.env.CI)('status', () => {
  beforeAll(async () => {
    lab = await Lab.create({ initdb: ['--wal-segsize=1'] })
    await lab.cluster.sql('CREATE TABLE notes (n int)')
  })
  beforeEach((context) => void requireServer(context))
  afterAll(() => lab?.[Symbol.asyncDispose]())

  test('without a backup it fails: nothing can be recovered', async () => {
    const answer = await status()
    expect(answer).toMatchObject({ exitCode: 12, windows: [], newestBackup: null })
    expect(texts(answer, 'fail')).toEqual(['there is no backup, so nothing can be recovered'])
  })

  test('the window goes from the end of the backup to the last commit that is archived', async () => {
    const backup = await backUp(lab)
    const last = await commit()
    await lab.cluster.archiveWal()
    await commit()
    const answer = await status()
    expect(answer.exitCode, JSON.stringify(answer.findings)).toBe(0)
    expect(answer.windows).toHaveLength(1)
    expect(answer.windows[0]).toMatchObject({
      timeline: 1,
      from: { backup: backup.id, time: backup.stop.time, lsn: backup.stop.lsn },
      to: { isExact: true },
      backups: [backup.id],
      cutBy: null,
    })
    const { time } = answer.windows[0]!.to
    expect(time > last.before && time < last.after, `${last.before} ${time} ${last.after}`).toBe(true)
    expect(answer.server).toMatchObject({
      reachable: true,
      timeline: 1,
      waiting: { segments: 0, oldest: null },
    })
  })

  test('both ends of a window can be restored to, as they are told', async () => {
    const { from, to } = (await status()).windows[0]!
    const begin = /from +To[^\n]*\n +1 +(\S+)/.exec((await lab.pgrecall(['status'])).stdout)![1]!
    expect(Date.parse(begin)).toBeGreaterThanOrEqual(Date.parse(from.time))
    for (const target of [
      ['--lsn', from.lsn],
      ['--time', from.time],
      ['--lsn', to.lsn],
    ]) {
      const { exitCode, stderr } = await lab.pgrecall([
        'restore',
        '--dry-run',
        ...target,
        '--data-directory',
        join(lab.scratch.path, 'copy'),
      ])
      expect(exitCode, `${target} ${stderr}`).toBe(0)
    }
  })

  test('what would be lost is what was written since; an idle server whose WAL is all stored loses nothing', async () => {
    const before = Date.now()
    await commit()
    await expect.poll(async () => (await status()).rpo!.seconds, { timeout: 30_000 }).toBeGreaterThan(0)
    const { rpo, server } = await status()
    expect(rpo).toMatchObject({ basis: 'server', unstoredBytes: expect.any(Number) })
    expect(rpo!.unstoredBytes).toBeGreaterThan(0)
    expect(rpo!.seconds).toBeLessThanOrEqual((Date.now() - before) / 1000 + 60)
    expect(Date.parse(server.walClock!.writtenAt)).toBeGreaterThan(before - 2000)
    await lab.cluster.archiveWal()
    const { archived, server: later } = await status()
    expect(later.walClock!.completed!.file).toBe(archived!.lastSegment)
    await expect
      .poll(
        async () => {
          // A checkpoint writes WAL, too, now and then.
          await lab.cluster.archiveWal()
          return (await status()).rpo
        },
        { timeout: 30_000 },
      )
      .toEqual({ seconds: 0, since: null, unstoredBytes: 0, basis: 'server' })
  })

  test('a restore leaves what it took, and the next is estimated by that', async () => {
    const estimate = (await status()).restore!
    expect(estimate.copy).toMatchObject({ basis: 'backups', samples: 1 })
    const copy = join(lab.scratch.path, 'measured')
    const { bytes } = await answerOf<{ bytes: number }>(lab, ['restore', '--data-directory', copy])
    const { restore, newestBackup } = await status()
    expect(restore).toMatchObject({
      backup: newestBackup!.id,
      copy: { bytes, basis: 'restores', samples: 1 },
    })
    const kept = JSON.parse(readFileSync(join(lab.repository, 'main/restore-rates.json'), 'utf8'))
    expect(kept.restores).toMatchObject([{ kind: 'restore', backup: newestBackup!.id, bytes }])
  })

  test('monitors get a file that is replaced whole, and a plugin its line and exit codes', async () => {
    const file = join(lab.scratch.path, 'pgrecall.prom')
    writeFileSync(file, 'old')
    const run = await lab.pgrecall(['status', '--quiet', '--format', 'prometheus', '--output', file])
    expect(run).toMatchObject({ exitCode: 0, stdout: '' })
    const { samples } = parseExposition(readFileSync(file, 'utf8'))
    expect(samples.find(({ name }) => name === 'pgrecall_server_reachable')).toMatchObject({
      labels: { cluster: 'main' },
      value: 1,
    })
    expect(statSync(file).mode & 0o777).toBe(0o644)
    expect(readdirSync(lab.scratch.path).filter((name) => name.startsWith('pgrecall.prom'))).toHaveLength(1)

    const plugin = await lab.pgrecall(['status', '--quiet', '--format', 'nagios'])
    expect(plugin.exitCode, plugin.stdout).toBe(0)
    expect(plugin.stdout).toMatch(
      /^OK - main\/local: last backup .* ago, .* would be lost \| 'main\/local\/backup_age'=\d+s;/,
    )
    const unknown = await lab.pgrecall(['--cluster', 'other', 'status', '--format', 'nagios'])
    expect(unknown).toMatchObject({
      exitCode: 3,
      stdout: expect.stringMatching(/^UNKNOWN - .* has no cluster "other"$/m),
    })
    const contrary = await lab.pgrecall(['status', '--json', '--format', 'prometheus'])
    expect(contrary).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('exclude each other') })
  })

  test('a record that somebody changed in catalog.json is not believed', async () => {
    const file = join(lab.repository, 'main/catalog.json')
    const stored = JSON.parse(readFileSync(file, 'utf8'))
    stored.backups[0].stop.time = '2020-01-01T00:00:00.000000Z'
    writeFileSync(file, JSON.stringify(stored))
    expect((await status()).newestBackup!.ageSeconds).toBeLessThan(86_400)
  })

  test('a slot that nobody receives through is told', async () => {
    await lab.cluster.sql("SELECT pg_create_physical_replication_slot('pgrecall')")
    const answer = await status()
    expect(answer.server.slot).toEqual({ name: 'pgrecall', active: false })
    expect(texts(answer, 'warn')[0]).toContain('nobody receives through slot "pgrecall"')
    await lab.cluster.sql("SELECT pg_drop_replication_slot('pgrecall')")
    expect((await status()).server.slot).toBeNull()
  })

  test('what is being received counts as far as it has come', async () => {
    const { cluster } = lab
    const storage = new LocalStorage(lab.repository)
    const last = await commit()
    const [row] = await cluster.sql<{ name: string; lsn: string }>(
      'SELECT pg_walfile_name(at) AS name, at::text AS lsn FROM pg_current_wal_lsn() AS at',
    )
    const written = readFileSync(join(cluster.dataDirectory, 'pg_wal', row!.name))
    await storage.put(receivingKey('main', row!.name), encodeWalFile(written, 1).object)
    const answer = await status()
    expect(answer.receiving).toMatchObject({ segment: row!.name })
    expect(lsn(answer.receiving!.lsn!)).toBeGreaterThanOrEqual(lsn(row!.lsn))
    const { time, isExact } = answer.windows[0]!.to
    expect(isExact && time > last.before && time < last.after, `${last.before} ${time} ${last.after}`).toBe(
      true,
    )
    await cluster.archiveWal()
    expect((await status()).receiving).toBeNull()
    await storage.remove(receivingKey('main', row!.name))
  })

  test('it is read from catalog.json, which it keeps', async () => {
    const key = 'main/catalog.json'
    const before = statSync(join(lab.repository, key)).mtimeMs
    const answer = await status()
    expect(statSync(join(lab.repository, key)).mtimeMs).toBeGreaterThan(before)
    const [run] = (answer.wal as { ranges: { backups: string[] }[] }[])[0]!.ranges
    expect(run!.backups).toEqual([answer.newestBackup!.id])
  })

  test('a failing archiver fails it, with what waits and when the disk is full', async () => {
    const { cluster } = lab
    const [setting] = await cluster.sql<{ archive_command: string }>('SHOW archive_command')
    await cluster.sql(`ALTER SYSTEM SET archive_command = 'false'`)
    await cluster.sql('SELECT pg_reload_conf()')
    await cluster.waitUntil(`current_setting('archive_command') = 'false'`)
    await commit()
    await cluster.sql('SELECT pg_switch_wal()')
    await commit()
    await cluster.sql('SELECT pg_switch_wal()')
    await cluster.waitUntil('(SELECT failed_count > 0 FROM pg_stat_archiver)')
    // As if it had begun twenty minutes ago.
    const [oldest] = readyNames().toSorted()
    const since = Date.now() / 1000 - 1200
    utimesSync(join(statusFolder(), oldest!), since, since)

    const answer = await status()
    expect(answer.exitCode).toBe(12)
    expect(answer.server.waiting).toMatchObject({ segments: 2, oldest: { file: oldest!.slice(0, 24) } })
    expect(answer.server.waiting!.oldest!.ageSeconds).toBeGreaterThanOrEqual(1200)
    expect(answer.server.fullInSeconds).toBeGreaterThan(0)
    expect(texts(answer, 'fail')[0]).toMatch(
      /^archiving fails, last at .*; 2 segments wait, the oldest for 20 min$/,
    )
    const filling = answer.findings.find(({ subject }) => subject === 'pg_wal')
    expect(filling!.text).toContain('at this rate WAL fills it in')

    // A role of another host sees the same over SQL.
    await cluster.sql(
      'CREATE ROLE watcher LOGIN; GRANT EXECUTE ON FUNCTION pg_ls_archive_statusdir() TO watcher',
    )
    const seen = await askServer({
      connect: () =>
        Server.connect({ host: cluster.host, port: cluster.port, user: 'watcher', database: 'postgres' }),
      dataDirectory: undefined,
      systemIdentifier: undefined,
      slot: 'pgrecall',
      walSegmentBytes: 1024 * 1024,
      now: new Date(),
      signal: new AbortController().signal,
    })
    expect(seen).toMatchObject({
      walDisk: null,
      waiting: { segments: 2, oldest: { file: oldest!.slice(0, 24) } },
    })
    expect(seen.waiting!.oldest!.ageSeconds).toBeGreaterThanOrEqual(1200)
    // Two segments of 1 MiB behind the end of the oldest, at most, in twenty minutes.
    expect(seen.walBytesPerSecond).toBeGreaterThan(0)
    expect(seen.walBytesPerSecond).toBeLessThan((3 * 1024 * 1024) / 1200)

    // A server that is down has left its files; the shutdown ended one more segment.
    await cluster.stop()
    const down = await status()
    expect(down.server).toMatchObject({ reachable: false, waiting: { segments: readyNames().length } })
    expect(readyNames().length).toBeGreaterThanOrEqual(2)
    expect(texts(down, 'warn')[0]).toMatch(/^the server cannot be asked: /)
    await cluster.start()
    await cluster.sql(
      `ALTER SYSTEM SET archive_command = '${setting!.archive_command.replaceAll("'", "''")}'`,
    )
    await cluster.sql('SELECT pg_reload_conf()')
    await cluster.waitUntil(`(SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name ~ '[.]ready$') = 0`)
    expect(await status()).toMatchObject({ exitCode: 0 })
  })

  test('WAL that was given up is a gap with a reason, and cuts the window until the next backup', async () => {
    const { cluster } = lab
    const storage = new LocalStorage(lab.repository)
    const [first] = (await status()).windows
    const kept = await commit()
    await cluster.archiveWal()
    await commit()
    const lost = await cluster.archiveWal()
    await commit()
    await cluster.archiveWal()
    await storage.remove(objectOf(lab, lost).slice(lab.repository.length + 1))
    const droppedAt = '2026-11-20T10:00:00.000Z'
    const note = { format: 1, segment: lost, droppedAt, reason: 'more than 64MB waited' }
    await storage.put(droppedKey('main', lost), Buffer.from(JSON.stringify(note)))
    await answerOf(lab, ['catalog', 'rebuild'])

    const cut = await status()
    expect(cut).toMatchObject({
      exitCode: 12,
      windows: [{ from: first!.from, cutBy: lost }],
      gaps: [{ first: lost, last: lost, segments: 1, cuts: [{ timeline: 1, lostUntil: null }] }],
    })
    const { time } = cut.windows[0]!.to
    expect(time > kept.before && time < kept.after).toBe(true)
    expect(texts(cut, 'fail')[0]).toContain('given up at 2026-11-20T10:00:00Z: more than 64MB waited')
    expect((await lab.pgrecall(['list'])).stdout).toContain(
      `timeline 1: ${lost} (1 segment), given up at 2026-11-20T10:00:00Z: more than 64MB waited`,
    )

    const next = await backUp(lab)
    expect(next.warnings).toContain(
      `WAL was given up at ${droppedAt} (more than 64MB waited), so recovery to later moments begins with this backup`,
    )
    const open = await status()
    expect(open.windows.map(({ from, cutBy }) => [from.backup, cutBy])).toEqual([
      [first!.from.backup, lost],
      [next.id, null],
    ])
    expect(open.gaps[0]!.cuts[0]).toMatchObject({ lostFrom: time, lostUntil: next.stop.time })
    // The gap lies behind this backup, so the one after it is not warned of any more.
    expect((await backUp(lab)).warnings).toEqual([])
  })

  test('what retention leaves has no gap, no note, and a catalog that fits', async () => {
    await answerOf(lab, ['retention', '--full', '1'])
    const answer = await status()
    expect(answer).toMatchObject({ exitCode: 0, gaps: [] })
    expect(answer.windows).toHaveLength(1)
    expect(JSON.stringify(answer.wal)).not.toContain('dropped')
  })

  test('a second repository is told on its own, and what it lacks', async () => {
    const offsite = join(lab.scratch.path, 'offsite')
    await lab.writeConfiguration((configuration) => {
      configuration.repositories.offsite = { type: 'local', path: offsite }
      configuration.clusters.main!.repositories = ['local', 'offsite']
    })
    await backUp(lab, ['--repository', 'offsite'])
    await lab.cluster.archiveWal()
    const lost = await lab.cluster.archiveWal()
    const last = await lab.cluster.archiveWal()
    await new LocalStorage(offsite).remove(objectOf(lab, lost, offsite).slice(offsite.length + 1))
    await answerOf(lab, ['catalog', 'rebuild'])
    // At first it may be on its way.
    const young = (await status()).all[1]!
    expect(texts(young, 'warn')[0]).toBe(`${lost} is missing (1 segment); it may be on the way`)
    expect(texts(young, 'fail')).toEqual([])
    const minutesAgo = Date.now() / 1000 - 120
    utimesSync(objectOf(lab, last, offsite), minutesAgo, minutesAgo)
    await answerOf(lab, ['catalog', 'rebuild'])
    const { all, exitCode } = await status()
    expect(exitCode).toBe(12)
    expect(all.map(({ repository, missing }) => [repository, missing.map(({ first }) => first)])).toEqual([
      ['local', []],
      ['offsite', [lost]],
    ])
    // What is said of one repository is true of it alone.
    expect((await lab.pgrecall(['status', '--repository', 'local'])).exitCode).toBe(0)
  })

  test('without --cluster it is about all of them, by the thresholds of each', async () => {
    await lab.writeConfiguration(({ clusters }) => {
      clusters.main!.status = { verificationAge: { warn: '1d' } }
      clusters.other = { ...clusters.main, status: {} }
    })
    const { all, exitCode } = await status()
    expect(all.map(({ cluster }) => cluster)).toEqual(['main', 'other'])
    expect(texts(all[0]!, 'warn')).toEqual(['nothing was verified'])
    expect(texts(all[1]!, 'fail')).toEqual(['there is no backup, so nothing can be recovered'])
    expect(exitCode).toBe(12)
    const { stdout } = await lab.pgrecall(['status'])
    expect(stdout).toMatch(
      /^fail {2}other in local: there is no backup, so nothing can be recovered\n +pgrecall --cluster other backup\n/,
    )
  })

  test('a repository that cannot be read is a finding, not an error', async () => {
    await lab.writeConfiguration((configuration) => {
      configuration.repositories.local!.path = join(lab.scratch.path, 'not/mounted')
    })
    const answer = await status()
    expect(answer).toMatchObject({ exitCode: 12, error: expect.stringContaining('is not a repository') })
  })
})
