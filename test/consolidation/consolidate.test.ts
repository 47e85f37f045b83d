import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import { answerOf, backUp, failureOf, listedBackups, recover, restoreTo } from '../backup/commands.ts'
import { backupFolder, inspect } from '../crash/repository.ts'
import { unpack } from '../incremental/unpack.ts'
import { tableChecksums } from '../lab/checksums.ts'
import { cleanEnvironment } from '../lab/environment.ts'
import { gatewayMissing } from '../lab/gateway.ts'
import type { Lab, LabOptions } from '../lab/lab.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { asLabUser } from '../lab/user.ts'
import {
  type Answer,
  consolidated,
  filesInManifest,
  filesOf,
  labWithTables,
  summarises,
  takeChain,
} from './chains.ts'

describe.skipIf(!findPrograms() && !process.env.CI)('a full backup that is made of a chain', () => {
  let lab: Lab
  beforeEach((context) => void requireServer(context))
  afterEach(() => lab?.[Symbol.asyncDispose]())

  const start = async (options?: LabOptions) => {
    lab = await labWithTables(options)
  }
  /** Where a restore puts the tablespaces. */
  const spaces = (name: string) =>
    ['one', 'two'].flatMap((space) => [
      '--tablespace',
      `${space}=${join(lab.scratch.path, `${name}-${space}`)}`,
    ])
  const restored = (name: string, id: string) => restoreTo(lab, name, [id, ...spaces(name)])
  const verified = (directory: string) => lab.cluster.run('pg_verifybackup', ['-n', '-e', directory])

  test('holds what a restore of its newest link gives, and counts as a backup like any other', async () => {
    await start()
    const chain = await takeChain(lab)
    const newest = chain.at(-1)!
    const before = await tableChecksums(lab.cluster)
    const { id, links, record, wasThere } = await consolidated(lab)
    expect(id).toBe(newest.id.replace('incr', 'synth'))
    expect(links).toEqual(chain.map(({ id, storedBytes }) => ({ id, storedBytes })))
    expect(wasThere).toBe(false)
    expect(record).toMatchObject({
      type: 'full',
      consolidatedFrom: chain.map((link) => link.id),
      start: newest.start,
      stop: newest.stop,
      resumedBytes: 0,
      damaged: [],
      damagedPages: 0,
      dataBytes: newest.clusterBytes,
    })
    for (const key of ['parent', 'increment', 'clusterBytes']) expect(record).not.toHaveProperty(key)
    expect(await listedBackups(lab)).toEqual([...chain.map((link) => link.id), id])
    expect(await inspect(lab)).toMatchObject({ problems: [] })

    const [ofChain, ofFull] = [await restored('chain', newest.id), await restored('full', id)]
    await verified(ofFull)
    expect(filesOf(await readFile(join(ofChain, 'backup_manifest')))).toEqual(
      await filesInManifest(lab, record!),
    )
    expect((await readdir(ofFull, { recursive: true })).sort()).toEqual(
      (await readdir(ofChain, { recursive: true })).sort(),
    )
    for (const folder of ['pg_wal/archive_status', 'pg_replslot', 'pg_twophase'])
      expect(existsSync(join(ofFull, folder))).toBe(true)
    await using server = await lab.adopt(ofFull, { settings: { archive_mode: 'off' } })
    await server.start()
    expect(await tableChecksums(server)).toEqual(before)
  })

  test.runIf(summarises())('lists the files that pg_combinebackup makes of the chain', async () => {
    await start()
    const chain = await takeChain(lab)
    const { record } = await consolidated(lab)
    const folders: string[] = []
    for (const { id } of chain) folders.push(await unpack(lab, id, `unpacked-${id}`))
    const combined = join(lab.scratch.path, 'combined')
    await lab.cluster.run('pg_combinebackup', [
      '--manifest-checksums=SHA256',
      '-N',
      '-o',
      combined,
      ...folders,
    ])
    expect(await filesInManifest(lab, record!)).toEqual(
      filesOf(await readFile(join(combined, 'backup_manifest'))),
    )
  })

  test('is what the next backup builds upon, and then is all that must stay', async () => {
    await start()
    const chain = await takeChain(lab)
    const { id } = await consolidated(lab)
    await lab.cluster.sql('UPDATE rows SET id = id + 1 WHERE abs(id) % 1000 = 3')
    const next = await backUp(lab, ['--type', 'incr'])
    expect(next.parent).toMatchObject({ id })
    const before = await tableChecksums(lab.cluster)
    const [kept] = await answerOf<{ removedBackups: number }[]>(lab, ['retention', '--full', '1'])
    expect(kept!.removedBackups).toBe(chain.length)
    expect(await listedBackups(lab)).toEqual([id, next.id])
    await using server = await recover(lab, 'after', [next.id, ...spaces('after')])
    expect(await tableChecksums(server)).toEqual(before)
    // What was put together can be part of a chain again.
    const again = await consolidated(lab)
    expect(again.record!.consolidatedFrom).toEqual([id, next.id])
    await verified(await restored('again', again.id))
  })

  test.each(['gzip', 'none'])('with %s, restores by hand', async (method) => {
    await start({
      configure: ({ clusters }) => Object.assign(clusters.main!, { backup: { compression: method } }),
    })
    await takeChain(lab)
    const before = await tableChecksums(lab.cluster)
    const { record } = await consolidated(lab)
    expect(record!.codec).toMatch(method)
    expect(await tablesByHand(record!)).toEqual(before)
  })

  test('of standalone, encrypted links carries the newest WAL, encrypted for who can read it now', async () => {
    await start({ archive: false, encrypted: true })
    await takeChain(lab, ['--standalone'])
    const before = await tableChecksums(lab.cluster)
    const { record } = await consolidated(lab)
    expect(record).toMatchObject({ standalone: true, recipients: [expect.stringMatching(/^age1/)] })
    const names = record!.objects.map(({ name }) => name)
    expect(new Set(names).size).toBe(names.length)
    expect(names.filter((name) => !name.endsWith('.age'))).toEqual(['RESTORE.txt'])
    const wal = record!.objects.filter(({ kind, group }) => kind === 'shard' && group === 'wal')
    expect(wal).toMatchObject([{ name: 'wal.0001.tar.zst.age' }])
    expect(await tablesByHand(record!)).toEqual(before)
    await verified(await restored('full', record!.id))
  })

  /** Runs its RESTORE.txt, and a server on what that makes. */
  async function tablesByHand(record: BackupRecord) {
    const directory = join(lab.scratch.path, 'by-hand')
    const places = record.tablespaces.map(({ oid, name }) => [
      `TABLESPACE_${oid}`,
      join(lab.scratch.path, `by-hand-${name}`),
    ])
    const env = {
      DATA: directory,
      IDENTITY: join(lab.scratch.path, 'identity.txt'),
      ...Object.fromEntries(places),
    }
    await execa('sh', [join(backupFolder(lab, record.id), 'RESTORE.txt')], {
      ...asLabUser,
      env: cleanEnvironment(lab.scratch.path, env),
      extendEnv: false,
    })
    await lab.cluster.run('pg_verifybackup', ['-n', '-e', directory])
    await using server = await lab.adopt(directory, { settings: { archive_mode: 'off' } })
    await server.start()
    return tableChecksums(server)
  }

  test('is made once, and only of a chain', async () => {
    await start()
    expect(await failureOf(lab, ['consolidate'])).toMatchObject({ kind: 'absent' })
    const chain = await takeChain(lab)
    const [full, middle, newest] = [chain[0]!, chain[2]!, chain[3]!]
    expect(await failureOf(lab, ['consolidate', full.id])).toMatchObject({ kind: 'refused', exitCode: 5 })
    expect(await failureOf(lab, ['consolidate', '20200101T000000Z-incr'])).toMatchObject({ kind: 'absent' })
    const links = (...backups: BackupRecord[]) => backups.map(({ id, storedBytes }) => ({ id, storedBytes }))

    const ids = await listedBackups(lab)
    const planned = await consolidated(lab, ['--dry-run'])
    expect(planned).toMatchObject({ dryRun: true, id: newest.id.replace('incr', 'synth'), wasThere: false })
    expect(planned).not.toHaveProperty('record')
    expect(await readdir(join(lab.repository, 'main/backups'))).toEqual(ids)

    const ofMiddle = await consolidated(lab, [middle.id])
    expect(ofMiddle.links.slice(0, 1)).toEqual(links(full))
    expect(ofMiddle.links.at(-1)).toEqual(links(middle)[0])
    expect(ofMiddle.id < newest.id).toBe(true)
    await verified(await restored('middle', ofMiddle.id))

    const { record } = await consolidated(lab)
    const nothing = { links: [], wasThere: true, id: record!.id, record: JSON.parse(JSON.stringify(record)) }
    expect(await consolidated(lab)).toMatchObject(nothing)
    expect(await consolidated(lab, [newest.id])).toMatchObject(nothing)
    const { stdout } = await lab.pgrecall(['consolidate'])
    expect(stdout).toBe(`There is nothing to do: ${record!.id} is a full backup already.\n`)
  })

  test('is made in each repository that has the whole chain', async () => {
    await start({ repositories: { local: 'local', second: 'local' } })
    const chain = await takeChain(lab)
    const { storage } = lab.repositories.second!
    await storage.remove(`main/backups/${chain[1]!.id}/backup.json`)
    const { exitCode, stdout, stderr } = await lab.pgrecall(['consolidate', '--json'])
    expect(exitCode).toBe(8)
    expect(stderr).toContain(`repository "second": `)
    const [here, there] = JSON.parse(stdout) as [Answer, Answer]
    expect(here).toMatchObject({ repository: 'local', wasThere: false })
    expect(there).toMatchObject({
      repository: 'second',
      error: { kind: 'damaged', message: expect.stringContaining(`${chain[1]!.id}, which is missing`) },
    })
    expect(await inspect(lab)).toMatchObject({ problems: [] })
  })

  test.skipIf(gatewayMissing())('can be in a bucket', async () => {
    await start({ repositories: { bucket: 's3' } })
    await takeChain(lab)
    const before = await tableChecksums(lab.cluster)
    const { record } = await consolidated(lab)
    await using server = await recover(lab, 'from-bucket', [record!.id, ...spaces('from-bucket')])
    expect(await tableChecksums(server)).toEqual(before)
  })
})
