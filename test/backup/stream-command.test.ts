import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { Lab } from '../lab/lab.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { expectBalanced, expectClean } from './clean.ts'
import { backUp, failureOf, listedBackups, recover, restoreTo } from './commands.ts'

const STREAM = ['--method', 'stream']

describe.skipIf(!findPrograms() && !process.env.CI)('a backup over the replication protocol', () => {
  let lab: Lab

  beforeAll(async () => {
    lab = await Lab.create()
    await lab.cluster.pgbench(['--initialize', '--scale=2', '--quiet'])
  })
  beforeEach((context) => void requireServer(context))
  afterAll(() => lab?.[Symbol.asyncDispose]())

  test('by pg_basebackup, under load, restores', async () => {
    await using load = lab.cluster.startPgbench({ clients: 2 })
    const { stderr } = await lab.pgrecall(['backup', ...STREAM])
    expect(stderr).toContain('by pg_basebackup')
    expect(await load.stop()).not.toContain('error')
    await restoresWell('program')
  })

  test('by ourselves, where there are tablespaces, restores', async () => {
    const place = await lab.scratch.folder('space')
    await lab.cluster.sql(`CREATE TABLESPACE space LOCATION '${place}'`)
    await lab.cluster.sql('ALTER TABLE pgbench_tellers SET TABLESPACE space')
    await using load = lab.cluster.startPgbench({ clients: 2 })
    const record = await backUp(lab, STREAM)
    expect(record).toMatchObject({ method: 'stream', damagedPages: 0, tablespaces: [{ name: 'space' }] })
    expect(await load.stop()).not.toContain('error')
    await restoresWell('protocol', ['--tablespace', `space=${join(lab.scratch.path, 'space-2')}`])
  })

  test('standalone, needs no archive and no further WAL', async () => {
    const { id } = await backUp(lab, [...STREAM, '--standalone', '--compression', 'none'])
    const directory = await restoreTo(lab, 'standalone', [
      id,
      ...['--immediate', '--target-action', 'promote', '--archive-mode', 'off'],
      ...['--tablespace', `space=${join(lab.scratch.path, 'space-3')}`],
    ])
    await lab.cluster.verifyBackup(directory)
    const server = await lab.adopt(directory)
    await server.start()
    await server.waitForPromotion()
    await expectBalanced(server)
    await expectClean(server)
  })

  test('is refused, with the line to add, where pg_hba.conf lets nobody replicate', async () => {
    const file = join(lab.cluster.dataDirectory, 'pg_hba.conf')
    const lines = await readFile(file, 'utf8')
    await writeFile(file, lines.replaceAll(/^(local|host) +replication.*$/gm, ''))
    await lab.cluster.sql('SELECT pg_reload_conf()')
    const before = await listedBackups(lab)
    const failure = await failureOf(lab, ['backup', ...STREAM])
    expect(failure).toMatchObject({ exitCode: 4, kind: 'connection' })
    expect(failure.hint).toContain('local replication postgres')
    expect(await listedBackups(lab)).toEqual(before)
    await writeFile(file, lines)
    await lab.cluster.sql('SELECT pg_reload_conf()')
  })

  test('is refused, with the statement to run, where the role may not replicate', async () => {
    await lab.cluster.sql('CREATE ROLE "the Other" LOGIN IN ROLE pg_read_all_settings')
    await lab.writeConfiguration(({ clusters }) => {
      Object.assign(clusters.main!.connection as object, { user: 'the Other' })
    })
    const failure = await failureOf(lab, ['backup', ...STREAM])
    expect(failure).toMatchObject({ exitCode: 5, kind: 'refused' })
    expect(failure.hint).toContain('ALTER ROLE "the Other" REPLICATION')
    await lab.writeConfiguration()
  })

  async function restoresWell(name: string, args: string[] = []): Promise<void> {
    await lab.cluster.archiveWal()
    const server = await recover(lab, name, args)
    await server.waitForPromotion()
    await expectBalanced(server)
    await expectClean(server)
  }
})

describe.skipIf((findPrograms()?.major ?? 0) < 17)(
  'incremental backups over the replication protocol',
  () => {
    test('are taken upon others, restore, and are full ones where the server cannot tell', async () => {
      await using lab = await Lab.create({ settings: { summarize_wal: true } })
      await lab.cluster.pgbench(['--initialize', '--scale=2', '--quiet'])
      const first = await backUp(lab)
      for (const parent of [first.id, undefined]) {
        await lab.cluster.pgbench(['--transactions=200', '--no-vacuum'])
        const record = await backUp(lab, [...STREAM, '--type', 'auto'])
        expect(record).toMatchObject({
          type: 'incr',
          increment: { source: 'server' },
          damagedPages: 0,
          warnings: [],
        })
        if (parent) expect(record.parent).toMatchObject({ id: parent })
      }
      await lab.cluster.archiveWal()
      const server = await recover(lab, 'chain')
      await server.waitForPromotion()
      await expectBalanced(server)
      await expectClean(server)
      await lab.cluster.sql('ALTER SYSTEM SET summarize_wal = off')
      await lab.cluster.sql('SELECT pg_reload_conf()')
      await lab.cluster.waitUntil(`current_setting('summarize_wal') = 'off'`)
      const { stderr } = await lab.pgrecall(['backup', ...STREAM, '--type', 'auto'])
      expect(stderr).toContain('A full backup is taken: summarize_wal is off')
    })
  },
)
