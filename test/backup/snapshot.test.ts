import { chmod, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { beforeEach, describe, expect, type TestContext, test } from 'vitest'
import type { Cluster } from '../lab/cluster.ts'
import { Lab } from '../lab/lab.ts'
import { poll } from '../lab/poll.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { giveToLabUser } from '../lab/user.ts'
import { LoopDisk } from '../snapshot/loop-disk.ts'
import { expectBalanced, expectClean } from './clean.ts'
import { answerOf, backUp, failureOf, recover } from './commands.ts'

const SNAPSHOT = ['--method', 'snapshot']

describe.skipIf(!findPrograms() && !process.env.CI)('a backup from snapshots', () => {
  let context: TestContext

  beforeEach((current) => {
    context = current
    requireServer(current)
  })

  test.each([
    ['btrfs', 'btrfs'],
    ['reflink', 'xfs'],
  ] as const)('by %s, under load and with a tablespace, restores; nothing stays', async (provider, type) => {
    await using disk = await LoopDisk.mount(context, type, type === 'btrfs' ? ['user_subvol_rm_allowed'] : [])
    await using lab = await labOn(disk, provider)
    const space = await (type === 'btrfs' ? disk.subvolume('space') : disk.folder('space'))
    await giveToLabUser(space)
    await lab.cluster.sql(`CREATE TABLESPACE space LOCATION '${space}'`)
    await lab.cluster.sql(
      'CREATE TABLE t TABLESPACE space AS SELECT n, md5(n::text) FROM generate_series(1, 5000) AS n',
    )
    await lab.cluster.pgbench(['--initialize', '--scale=1', '--quiet'])
    await using load = lab.cluster.startPgbench({ clients: 2 })
    await lab.cluster.waitUntil('(SELECT count(*) > 50 FROM pgbench_history)')
    const before = (await readdir(disk.path)).sort()

    const record = await backUp(lab, SNAPSHOT)
    expect(record).toMatchObject({ method: 'snapshot', damagedPages: 0 })
    expect((await readdir(disk.path)).sort()).toEqual(before)
    expect(await load.stop()).not.toContain('error')
    await lab.cluster.archiveWal()
    const server = await recover(lab, 'restored', [
      '--tablespace',
      `${space}=${join(lab.scratch.path, 'space')}`,
    ])
    await server.waitForPromotion()
    expect(await server.sql('SELECT count(*)::int AS n FROM t')).toEqual([{ n: 5000 }])
    await expectBalanced(server)
    await expectClean(server)
  })

  test('that was killed leaves a snapshot, which the next one removes and says so', async () => {
    await using disk = await LoopDisk.mount(context, 'btrfs', ['user_subvol_rm_allowed'])
    await using lab = await labOn(disk, 'btrfs')
    const { process: running } = await lab.startPgrecall(['backup', ...SNAPSHOT, '--max-rate', '2MB'])
    const snapshots = async () => (await readdir(disk.path)).filter((name) => name.startsWith('pgrecall-'))
    await poll(async () => (await snapshots()).length > 0, { what: 'the snapshot' })
    running.kill('SIGKILL')
    await running
    const [left] = await snapshots()
    expect(left).toBeDefined()
    const { exitCode, stderr } = await lab.pgrecall(['backup', ...SNAPSHOT])
    expect(exitCode).toBe(0)
    expect(stderr).toContain(`removed the snapshot ${left}`)
    expect(await snapshots()).toEqual([])
  })

  test('of a standby stops its replay for a moment only', async () => {
    await using disk = await LoopDisk.mount(context, 'xfs')
    await using lab = await Lab.create()
    await lab.cluster.pgbench(['--initialize', '--scale=1', '--quiet'])
    const place = await disk.folder('pg')
    await open(disk)
    await giveToLabUser(place)
    const directory = join(place, 'standby')
    await lab.cluster.run('pg_basebackup', [
      '--pgdata',
      directory,
      '--checkpoint=fast',
      '--write-recovery-conf',
    ])
    const standby = await lab.adopt(directory, { settings: { archive_mode: 'off' } })
    await standby.start()
    await configure(lab, standby, 'reflink')
    await using load = lab.cluster.startPgbench({ clients: 2 })
    await standby.waitUntil('(SELECT count(*) > 50 FROM pgbench_history)')
    const record = await backUp(lab, [...SNAPSHOT, '--standalone'])
    expect(record).toMatchObject({ fromStandby: true, method: 'snapshot', damagedPages: 0 })
    expect(await standby.sql('SELECT pg_is_wal_replay_paused() AS paused')).toEqual([{ paused: false }])
    expect(await load.stop()).not.toContain('error')
    await lab.cluster.archiveWal()
    const server = await recover(lab, 'restored')
    await server.waitForPromotion()
    await expectBalanced(server)
    await expectClean(server)
    // A run that was killed leaves a mark that the pause is ours, and the next one ends it.
    await standby.sql('SELECT pg_wal_replay_pause()')
    const mark = { host: hostname(), dataDirectory: standby.dataDirectory }
    await writeFile(join(lab.repository, 'main/replay-paused.json'), `${JSON.stringify(mark)}\n`)
    await giveToLabUser(join(lab.repository, 'main/replay-paused.json'))
    await answerOf(lab, ['backup', ...SNAPSHOT, '--standalone'])
    expect(await standby.sql('SELECT pg_is_wal_replay_paused() AS paused')).toEqual([{ paused: false }])
    expect(await readdir(join(lab.repository, 'main'))).not.toContain('replay-paused.json')
    // A role that could pause but not resume is refused before it pauses.
    await lab.cluster.sql(`CREATE ROLE half LOGIN REPLICATION IN ROLE pg_read_all_settings;
      GRANT EXECUTE ON FUNCTION pg_wal_replay_pause(), pg_backup_start(text, boolean), pg_backup_stop(boolean) TO half`)
    await standby.waitUntil(`EXISTS (SELECT FROM pg_roles WHERE rolname = 'half')`)
    await configure(lab, standby, 'reflink', 'half')
    const failure = await failureOf(lab, ['backup', ...SNAPSHOT, '--standalone'])
    expect(failure).toMatchObject({ exitCode: 5, kind: 'refused' })
    expect(failure.hint).toContain('pg_wal_replay_resume() TO "half"')
    await configure(lab, standby, 'reflink')
    // One that was paused by somebody else stays so.
    await standby.sql('SELECT pg_wal_replay_pause()')
    await answerOf(lab, ['backup', ...SNAPSHOT, '--standalone'])
    expect(await standby.sql('SELECT pg_is_wal_replay_paused() AS paused')).toEqual([{ paused: true }])
  })

  test('is refused with the reason where there can be none', async () => {
    await using lab = await Lab.create()
    expect(await failureOf(lab, ['backup', ...SNAPSHOT])).toMatchObject({ exitCode: 3, kind: 'config' })
    await configure(lab, lab.cluster, 'zfs')
    const failure = await failureOf(lab, ['backup', ...SNAPSHOT])
    expect(failure).toMatchObject({ exitCode: 5, kind: 'refused' })
    expect(failure.message).toContain('not on ZFS')
  })
})

/** To the user that servers run as. */
async function open(disk: LoopDisk): Promise<void> {
  await chmod(disk.outside, 0o755)
  await giveToLabUser(disk.path)
}

/** A lab whose data directory lies on a disk of its own. */
async function labOn(disk: LoopDisk, provider: 'btrfs' | 'reflink'): Promise<Lab> {
  await open(disk)
  const lab = await Lab.create({ start: false })
  const place = provider === 'btrfs' ? await disk.subvolume('pg') : await disk.folder('pg')
  await giveToLabUser(place)
  const { dataDirectory } = lab.cluster
  await execa('cp', ['-a', dataDirectory, join(place, 'data')])
  await rm(dataDirectory, { recursive: true })
  await symlink(join(place, 'data'), dataDirectory)
  await configure(lab, lab.cluster, provider)
  await lab.cluster.start()
  return lab
}

function configure(lab: Lab, server: Cluster, provider: string, user = server.user): Promise<void> {
  const { dataDirectory, host, port } = server
  return lab.writeConfiguration(({ clusters }) => {
    Object.assign(clusters.main!, { dataDirectory, connection: { host, port, user } })
    clusters.main!.backup = { snapshot: { provider } }
  })
}
