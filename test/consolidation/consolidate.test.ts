import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import { answerOf, backUp, failureOf, listedBackups, recover, restoreTo } from '../backup/commands.ts'
import { inspect } from '../crash/repository.ts'
import { unpack } from '../incremental/unpack.ts'
import { type TableChecksum, tableChecksums } from '../lab/checksums.ts'
import type { Lab } from '../lab/lab.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import {
  consolidated,
  filesInManifest,
  filesOf,
  labWithTables,
  spacesOf,
  summarises,
  takeChain,
} from './chains.ts'

const options = { timeout: 300_000 }

describe.skipIf(!findPrograms() && !process.env.CI)('a full backup that is made of a chain', () => {
  let lab: Lab
  let chain: BackupRecord[]
  let newest: BackupRecord
  let tables: TableChecksum[]
  beforeAll(async () => {
    lab = await labWithTables()
    chain = await takeChain(lab)
    newest = chain.at(-1)!
    tables = await tableChecksums(lab.cluster)
  }, 300_000)
  beforeEach((context) => void requireServer(context))
  afterAll(() => lab?.[Symbol.asyncDispose]())

  const restored = (name: string, id: string) => restoreTo(lab, name, [id, ...spacesOf(lab, name)])
  const verified = (directory: string) => lab.cluster.run('pg_verifybackup', ['-n', '-e', directory])
  const linksOf = (links: BackupRecord[]) => links.map(({ id, storedBytes }) => ({ id, storedBytes }))

  test('is made only of a chain, and not when it is only asked about', options, async () => {
    const [full] = chain
    expect(await failureOf(lab, ['consolidate', full!.id])).toMatchObject({ kind: 'refused', exitCode: 5 })
    expect(await failureOf(lab, ['consolidate', '20200101T000000Z-incr'])).toMatchObject({ kind: 'absent' })
    const planned = await consolidated(lab, ['--dry-run'])
    expect(planned).toEqual({
      repository: 'local',
      dryRun: true,
      id: newest.id.replace('incr', 'synth'),
      links: linksOf(chain),
      wasThere: false,
    })
    expect(await readdir(join(lab.repository, 'main/backups'))).toEqual(chain.map(({ id }) => id))
  })

  test('can be made of its older links alone', options, async () => {
    const middle = chain[1]!
    const { id, links } = await consolidated(lab, [middle.id])
    expect(links).toEqual(linksOf(chain.slice(0, 2)))
    expect(await listedBackups(lab)).toEqual([chain[0]!.id, middle.id, id, chain[2]!.id, newest.id])
    await verified(await restored('middle', id))
  })

  test('holds what a restore of its newest link gives', options, async () => {
    const { id, links, record, wasThere } = await consolidated(lab)
    expect({ id, links, wasThere }).toEqual({
      id: newest.id.replace('incr', 'synth'),
      links: linksOf(chain),
      wasThere: false,
    })
    expect(record).toMatchObject({
      type: 'full',
      consolidatedFrom: chain.map((link) => link.id),
      start: newest.start,
      stop: newest.stop,
      resumedBytes: 0,
      damaged: [],
      damagedPages: 0,
    })
    for (const key of ['parent', 'increment', 'clusterBytes']) expect(record).not.toHaveProperty(key)
    expect(await inspect(lab)).toMatchObject({ problems: [] })

    const [ofChain, ofFull] = [await restored('chain', newest.id), await restored('full', id)]
    await verified(ofFull)
    const files = await filesInManifest(lab, record!)
    expect(filesOf(await readFile(join(ofChain, 'backup_manifest')))).toEqual(files)
    expect(record).toMatchObject({
      files: files.size,
      dataBytes: [...files.values()].reduce((sum, { size }) => sum + size, 0),
    })
    const everything = async (folder: string) => (await readdir(folder, { recursive: true })).sort()
    expect(await everything(ofFull)).toEqual(await everything(ofChain))
    for (const folder of ['pg_wal/archive_status', 'pg_replslot', 'pg_twophase'])
      expect(existsSync(join(ofFull, folder))).toBe(true)
    await using server = await lab.adopt(ofFull, { settings: { archive_mode: 'off' } })
    await server.start()
    expect(await tableChecksums(server)).toEqual(tables)
  })

  test.runIf(summarises())('lists the files that pg_combinebackup makes of the chain', options, async () => {
    const { record } = await consolidated(lab)
    const folders: string[] = []
    for (const { id } of chain) folders.push(await unpack(lab, id, `unpacked-${id}`))
    const combined = join(lab.scratch.path, 'combined')
    const args = ['--manifest-checksums=SHA256', '-N', '-o', combined, ...folders]
    await lab.cluster.run('pg_combinebackup', args)
    const theirs = filesOf(await readFile(join(combined, 'backup_manifest')))
    expect(await filesInManifest(lab, record!)).toEqual(theirs)
  })

  test('is made once', options, async () => {
    const { id } = await consolidated(lab)
    expect(await consolidated(lab)).toMatchObject({ id, links: [], record: { id }, wasThere: true })
    expect(await consolidated(lab, [newest.id])).toMatchObject({ id, links: [], wasThere: true })
    const { stdout } = await lab.pgrecall(['consolidate'])
    expect(stdout).toBe(`There is nothing to do: ${id} is a full backup already.`)
  })

  test('is what the next backup builds upon, and then is all that must stay', options, async () => {
    const { id } = await consolidated(lab)
    await lab.cluster.sql('UPDATE rows SET id = id + 1 WHERE abs(id) % 1000 = 3')
    const next = await backUp(lab, ['--type', 'incr'])
    expect(next.parent).toMatchObject({ id })
    await answerOf(lab, ['retention', '--full', '1'])
    expect(await listedBackups(lab)).toEqual([id, next.id])
    const after = await tableChecksums(lab.cluster)
    await using server = await recover(lab, 'after', [next.id, ...spacesOf(lab, 'after')])
    expect(await tableChecksums(server)).toEqual(after)
    const again = await consolidated(lab)
    expect(again.record!.consolidatedFrom).toEqual([id, next.id])
    await verified(await restored('again', again.id))
  })
})
