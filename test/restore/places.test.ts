import { existsSync } from 'node:fs'
import { appendFile, lstat, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { MARKER } from '../../src/restore/data-directory.ts'
import { answerOf, backUp, failureOf, labFolder, type RestoreAnswer, restoreTo } from '../backup/commands.ts'
import { Cluster } from '../lab/cluster.ts'
import { Lab } from '../lab/lab.ts'
import { poll } from '../lab/poll.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'

let lab: Lab

const place = (name: string) => join(lab.scratch.path, name)

describe.skipIf(!findPrograms() && !process.env.CI)('the place of a restore', () => {
  beforeAll(async () => {
    lab = await Lab.create()
    await lab.cluster.sql('CREATE TABLE numbers AS SELECT generate_series(1, 100) AS n')
    await backUp(lab)
  })
  beforeEach((context) => void requireServer(context))
  afterAll(() => lab?.[Symbol.asyncDispose]())

  test('is not a folder that holds something else, and that stays as it is', async () => {
    const folder = await labFolder(place('photographs'))
    await writeFile(join(folder, 'holiday.jpg'), 'sun')
    for (const args of [[], ['--force']]) {
      const failure = await failureOf(lab, ['restore', '-D', folder, ...args])
      expect(failure).toMatchObject({ exitCode: 5, kind: 'refused' })
      expect(failure.message).toContain('no PostgreSQL data directory')
    }
    expect(await readdir(folder)).toEqual(['holiday.jpg'])
  })

  test('is not a cluster, unless --force gives it up', async () => {
    await using other = await Cluster.create({ within: lab.scratch, name: 'other', start: false })
    const folder = other.dataDirectory
    await writeFile(join(folder, 'base/leftover'), 'old')
    const before = await readdir(folder, { recursive: true })
    const failure = await failureOf(lab, ['restore', '-D', folder])
    expect(failure).toMatchObject({ exitCode: 5, kind: 'refused' })
    expect(failure.hint).toContain('--force')
    expect(await readdir(folder, { recursive: true })).toEqual(before)

    const answer = await answerOf<RestoreAnswer>(lab, ['restore', '-D', folder, '--force'])
    expect(answer.replaces).toEqual([folder])
    expect(existsSync(join(folder, 'base/leftover'))).toBe(false)
    await lab.cluster.run('pg_verifybackup', ['-n', folder])
  })

  test('is never one in which a server runs', async () => {
    const failure = await failureOf(lab, ['restore', '--force'])
    expect(failure).toMatchObject({ exitCode: 5, kind: 'refused' })
    expect(failure.message).toContain('postmaster.pid')
    expect(await lab.cluster.sql('SELECT count(*)::int AS n FROM numbers')).toEqual([{ n: 100 }])
  })

  test("belongs to the server's user when root restores, with all that is in it and on the way to it", async () => {
    const path = place('made/by/root')
    await answerOf(lab, ['restore', '-D', path], { user: 'self' })
    const { uid, gid } = await lstat(lab.cluster.dataDirectory)
    const inside = await readdir(path, { recursive: true })
    expect(inside.length).toBeGreaterThan(900)
    for (const name of ['..', '../..', '.', ...inside]) {
      const facts = await lstat(join(path, name))
      expect([name, facts.uid, facts.gid]).toEqual([name, uid, gid])
      expect([name, facts.mode & 0o777]).toEqual([name, facts.isDirectory() ? 0o700 : 0o600])
    }
    const server = await lab.adopt(path, { settings: { archive_mode: 'off' } })
    await server.start()
    await server.waitForPromotion()
    expect(await server.sql('SELECT count(*)::int AS n FROM numbers')).toEqual([{ n: 100 }])
  })

  test('may be relative to where the command is called', async () => {
    const cwd = await labFolder(place('here'))
    const { plan } = await answerOf<RestoreAnswer>(lab, ['restore', '-D', '../there/data'], { cwd })
    expect(plan.dataDirectory).toBe(place('there/data'))
    expect(existsSync(place('there/data/PG_VERSION'))).toBe(true)
  })

  test('holds no recovery settings of an earlier life, and keeps the others', async () => {
    const { cluster } = lab
    const set = {
      restore_command: 'false',
      recovery_target_name: 'long ago',
      recovery_target_action: 'shutdown',
      recovery_target_timeline: '1',
      work_mem: '12MB',
    }
    for (const [name, value] of Object.entries(set))
      await cluster.sql(`ALTER SYSTEM SET ${name} = '${value}'`)
    await backUp(lab)
    await cluster.sql('ALTER SYSTEM RESET ALL')
    const directory = await restoreTo(lab, 'cleaned')
    const settings = await readFile(join(directory, 'postgresql.auto.conf'), 'utf8')
    expect(settings).toContain("work_mem = '12MB'")
    expect(settings).not.toMatch(/long ago|shutdown|'false'/)
    const server = await lab.adopt(directory, { settings: { archive_mode: 'off' } })
    await server.start()
    await server.waitForPromotion()
    expect(await server.sql('SHOW work_mem')).toEqual([{ work_mem: '12MB' }])
  })

  test('starts with a recovery target of its own, whatever postgresql.conf still holds', async () => {
    const { cluster } = lab
    await cluster.sql('SELECT pg_create_restore_point($$here$$), pg_switch_wal()')
    await cluster.archiveWal()
    for (const [name, args] of [
      ['with a target', ['--name', 'here', '--target-action', 'promote']],
      ['to the end', []],
    ] as const) {
      const directory = await restoreTo(lab, name, [...args])
      const leftover = "\nrecovery_target_xid = '4'\nrecovery_target_inclusive = off\nprimary_conninfo = ''\n"
      await appendFile(join(directory, 'postgresql.conf'), leftover)
      const server = await lab.adopt(directory, { settings: { archive_mode: 'off' } })
      await server.start()
      await server.waitForPromotion()
      await server.stop()
    }
  })

  test.each(['SIGINT', 'SIGKILL'] as const)(
    'after %s starts no server, and takes the same restore again',
    async (signal) => {
      const path = place(`stopped-by-${signal}`)
      const { process } = await lab.startPgrecall(['restore', '-D', path])
      await poll(() => existsSync(join(path, 'base/1')), { what: 'the first files', everyMs: 1 })
      process.kill(signal)
      const { exitCode } = await process
      expect(exitCode).toBe(signal === 'SIGINT' ? 130 : undefined)
      expect(existsSync(join(path, MARKER))).toBe(true)
      expect(existsSync(join(path, 'global/pg_control'))).toBe(false)

      await answerOf(lab, ['restore', '-D', path])
      expect(existsSync(join(path, MARKER))).toBe(false)
      await lab.cluster.run('pg_verifybackup', ['-n', path])
    },
  )

  test('is not made when a stored object of the backup is damaged or missing', async () => {
    const record = await backUp(lab)
    const folder = join(lab.repository, 'main/backups', record.id)
    const shard = join(folder, record.objects[0]!.name)
    const original = await readFile(shard)
    const flipped = Buffer.from(original)
    flipped[flipped.length >> 1]! ^= 1
    for (const spoiled of [flipped, original.subarray(0, -7), undefined]) {
      if (spoiled) await writeFile(shard, spoiled)
      else await rm(shard)
      const failure = await failureOf(lab, ['restore', record.id, '-D', place('damaged')])
      expect(failure).toMatchObject({ exitCode: 9, kind: 'damaged' })
      expect(failure.message).toContain(record.objects[0]!.name)
      expect(existsSync(join(place('damaged'), 'global/pg_control'))).toBe(false)
    }
    await rm(folder, { recursive: true })
  })

  test('says so when a newer backup has a damaged record, and never takes one that was asked for for absent', async () => {
    const older = await backUp(lab)
    const record = await backUp(lab)
    await writeFile(join(lab.repository, 'main/backups', record.id, 'backup.json'), '{')
    await rm(join(lab.repository, 'main/catalog.json'))
    const { exitCode, stderr } = await lab.pgrecall(['restore', '--dry-run', '-D', place('unmade')])
    expect(exitCode).toBe(0)
    expect(stderr).toContain(record.id)
    const failure = await failureOf(lab, ['restore', record.id, '-D', place('unmade')])
    expect(failure).toMatchObject({ exitCode: 9, kind: 'damaged' })
    expect(
      (await answerOf<RestoreAnswer>(lab, ['restore', '--dry-run', '-D', place('unmade')])).plan.backup.id,
    ).toBe(older.id)
  })
})
