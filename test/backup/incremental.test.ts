import { readdir } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import { tableChecksums } from '../lab/checksums.ts'
import { Lab, type LabOptions } from '../lab/lab.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { answerOf, backUp, listedBackups, recover } from './commands.ts'

const MIB = 1024 * 1024
const major = () => findPrograms()?.major ?? 0
/** Whether the server can say by itself what has changed. */
const summarises = () => major() >= 17

describe.skipIf(!findPrograms() && !process.env.CI)('an incremental backup', () => {
  let lab: Lab

  beforeEach((context) => void requireServer(context))
  afterEach(() => lab?.[Symbol.asyncDispose]())

  /** Some 40 MB, of which half are one table whose pages say that nobody has to look at them again. */
  async function start(options: LabOptions = {}): Promise<void> {
    const settings = summarises() ? { summarize_wal: true } : {}
    lab = await Lab.create({ ...options, settings: { ...settings, ...options.settings } })
    await lab.cluster.sql(
      `CREATE TABLE rows AS SELECT n AS id, repeat(md5(n::text), 10) AS text FROM generate_series(1, 50000) n`,
    )
    await lab.cluster.sql('VACUUM rows')
  }

  const change = () => lab.cluster.sql('UPDATE rows SET id = -id WHERE id % 2000 = 1')
  const incremental = (...args: string[]) => backUp(lab, ['--type', 'incr', ...args])

  async function expectRestored(id: string): Promise<void> {
    const before = await tableChecksums(lab.cluster)
    await using server = await recover(lab, `restored-${id}`, [id])
    expect(await tableChecksums(server)).toEqual(before)
    expect(await server.sql('SELECT count(*)::int AS rows FROM rows')).toEqual([{ rows: 50_000 }])
  }

  test('has the blocks that changed, in the form of PostgreSQL', async () => {
    await start()
    const full = await backUp(lab)
    expect(full).not.toHaveProperty('parent')
    await change()
    const record = await incremental()
    expect(record).toMatchObject({
      id: expect.stringMatching(/-incr$/),
      type: 'incr',
      parent: { id: full.id, startLsn: full.start.lsn, timeline: 1 },
      increment: { source: summarises() ? 'wal-summaries' : 'page-lsns' },
      warnings: [],
    })
    const blocks = record.increment!.changedBlocks
    expect(blocks).toBeGreaterThan(20)
    expect(blocks).toBeLessThan(500)
    expect(record.dataBytes).toBeLessThan(full.dataBytes / 4)
    expect(record.clusterBytes).toBeGreaterThan(full.dataBytes - MIB)
    if (summarises()) expect(record.increment!.readBytes).toBeLessThan(full.dataBytes / 4)
    const folder = await unpacked(record)
    const [row] = await lab.cluster.sql<{ path: string }>(`SELECT pg_relation_filepath('rows') AS path`)
    const names = await readdir(join(folder, dirname(row!.path)))
    const name = basename(row!.path)
    expect(names).toContain(`INCREMENTAL.${name}`)
    expect(names).not.toContain(name)
    expect(names).toContain(`${name}_vm`)
    await change()
    await expectRestored(await incremental().then(({ id }) => id))
  })

  /** What `tar` makes of a backup. */
  async function unpacked({ id, objects }: BackupRecord): Promise<string> {
    const folder = await lab.scratch.folder(`unpacked-${id}`)
    for (const { kind, name } of objects) {
      const object = join(lab.repository, 'main/backups', id, name)
      if (kind === 'shard') await execa('tar', ['--zstd', '-xf', object, '-C', folder])
    }
    return folder
  }

  test.runIf(summarises())('is taken by pg_combinebackup, also in a chain of several methods', async () => {
    await start()
    const chain = [await backUp(lab, ['--method', 'stream'])]
    for (const method of ['files', 'stream', 'files']) {
      await change()
      chain.push(await incremental('--method', method))
    }
    expect(chain.map(({ type }) => type)).toEqual(['full', 'incr', 'incr', 'incr'])
    const folders: string[] = []
    for (const record of chain) {
      const folder = await unpacked(record)
      const manifest = join(lab.repository, 'main/backups', record.id, 'backup_manifest.zst')
      await execa('zstd', ['-dq', manifest, '-o', join(folder, 'backup_manifest')])
      folders.push(folder)
    }
    const target = join(lab.scratch.path, 'combined')
    await execa(lab.cluster.programs.path('pg_combinebackup'), [...folders, '--output', target])
    await execa(lab.cluster.programs.path('pg_verifybackup'), ['--no-parse-wal', target])
    await expectRestored(chain.at(-1)!.id)
  })

  test('builds by itself upon the newest, and says why where it cannot', async () => {
    await start()
    const take = async (...args: string[]) => {
      const { stderr, exitCode } = await lab.pgrecall(['backup', '--type', 'auto', ...args])
      expect(exitCode).toBe(0)
      return stderr
    }
    expect(await take()).toContain('A full backup is taken: there is no backup yet')
    const [first] = await listedBackups(lab)
    expect(await take()).toContain(`Building upon backup ${first}`)
    const differential = await backUp(lab, ['--type', 'diff'])
    expect(differential).toMatchObject({ type: 'diff', parent: { id: first } })
    expect(await take()).toContain(`Building upon backup ${differential.id}`)
    await lab.cluster.stop()
    await execa(lab.cluster.programs.path('pg_checksums'), ['--disable', '-D', lab.cluster.dataDirectory])
    await lab.cluster.start()
    expect(await take()).toContain('page checksums were switched since')
    expect((await listedBackups(lab)).map((id) => id.replace(/.*-/, ''))).toEqual([
      'full',
      'incr',
      'diff',
      'incr',
      'full',
    ])
  })

  test('that was asked for and cannot be had is a full one, with a warning', async () => {
    await start()
    const record = await incremental()
    expect(record).toMatchObject({
      type: 'full',
      warnings: ['a full backup is taken: there is no backup yet'],
    })
  })

  test.runIf(summarises())('looks at the pages where summaries are missing, and says why', async () => {
    await start({ settings: { summarize_wal: false } })
    await backUp(lab)
    await change()
    const record = await incremental()
    expect(record.increment).toMatchObject({ source: 'page-lsns', reason: 'summarize_wal is off' })
    await expectRestored(record.id)
  })

  test('that looks at pages does not read files that were not written since', async () => {
    await start({ settings: summarises() ? { summarize_wal: false } : {} })
    // Longer ago than the time of a file can tell.
    await lab.cluster.sql('CHECKPOINT')
    await lab.cluster.sql('SELECT pg_sleep(2.5)')
    const full = await backUp(lab)
    const record = await incremental()
    expect(record.increment!.source).toBe('page-lsns')
    expect(record.increment!.readBytes).toBeLessThan(full.dataBytes / 4)
    await change()
    const next = await incremental()
    expect(next.increment!.readBytes).toBeGreaterThan(15 * MIB)
    await expectRestored(next.id)
  })

  test('needs to read the indexes of its parent', async () => {
    await start({ encrypted: true })
    await backUp(lab)
    const record = await incremental()
    expect(record.type).toBe('incr')
    await expectRestored(record.id)
    await lab.writeConfiguration(({ repositories }) => {
      delete (repositories.local!.encryption as { identityFile?: string }).identityFile
    })
    const { type, warnings } = await incremental()
    expect(type).toBe('full')
    expect(warnings.join()).toContain('this host has no key that opens them')
  })

  test('goes only to where its parent is', async () => {
    await start({ repositories: { local: 'local', other: 'local' } })
    const full = await backUp(lab)
    const both = await incremental()
    expect(both.parent?.id).toBe(full.id)
    await answerOf(lab, ['backup', '--repository', 'local', '--type', 'incr'])
    // That one is in one of them only.
    const next = await incremental()
    expect(next.parent?.id).toBe(both.id)
    await expectRestored(next.id)
  })
})
