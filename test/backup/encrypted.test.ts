import { existsSync } from 'node:fs'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import { tableChecksums } from '../lab/checksums.ts'
import { Lab } from '../lab/lab.ts'
import { poll } from '../lab/poll.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { answerOf, backUp, failureOf, listedBackups, restoreTo } from './commands.ts'

const MIB = 1024 * 1024
/** What everybody may read. */
const PLAIN = ['RESTORE.txt', 'backup.json']

describe.skipIf(!findPrograms() && !process.env.CI)('an encrypted backup', () => {
  let lab: Lab

  beforeAll(async () => {
    lab = await Lab.create({ encrypted: true })
    await lab.cluster.pgbench(['--initialize', '--scale=1', '--quiet'])
    await lab.cluster.sql(`CREATE TABLE secrets AS SELECT 'the password is swordfish' AS text`)
    await lab.cluster.sql('CHECKPOINT')
  })
  beforeEach(async (context) => {
    requireServer(context)
    await becomeHost('with a key')
  })
  afterAll(() => lab?.[Symbol.asyncDispose]())

  /** The same configuration with and without the file of the secret key. */
  function becomeHost(kind: 'with a key' | 'without a key'): Promise<void> {
    return lab.writeConfiguration(({ repositories, clusters }) => {
      const encryption = repositories.local!.encryption as { identityFile?: string }
      if (kind === 'without a key') delete encryption.identityFile
      clusters.main!.backup = { shardSize: '1MB' }
      clusters.main!.retention = { full: 1 }
    })
  }

  const folderOf = (id: string) => join(lab.repository, 'main/backups', id)

  test('is taken, shown and expired by a host that cannot read it', async () => {
    await becomeHost('without a key')
    const first = await backUp(lab, ['--compression', 'none'])
    const { recipients } = lab.repositories.local!.configuration.encryption as { recipients: string[] }
    expect(first.recipients).toEqual(recipients)
    for (const name of await readdir(folderOf(first.id))) {
      const content = await readFile(join(folderOf(first.id), name), 'latin1')
      expect(name.endsWith('.age'), name).toBe(!PLAIN.includes(name))
      expect(content.startsWith('age-encryption.org/v1\n'), name).toBe(!PLAIN.includes(name))
      expect(content, name).not.toContain('swordfish')
      expect(content, name).not.toContain('PG_VERSION')
    }
    expect(await listedBackups(lab)).toEqual([first.id])
    const [shown] = [await answerOf<BackupRecord>(lab, ['show', first.id])].flat()
    expect(shown).toMatchObject({ id: first.id })
    const { id } = await backUp(lab)
    await answerOf(lab, ['retention'])
    expect(await listedBackups(lab)).toEqual([id])
    expect(existsSync(folderOf(first.id))).toBe(false)
  })

  test('is not restored without the key, which is said before anything is written', async () => {
    await becomeHost('without a key')
    await backUp(lab)
    const target = join(lab.scratch.path, 'without')
    const args = ['restore', '--data-directory', target]
    const failure = await failureOf(lab, args)
    expect(failure).toMatchObject({
      exitCode: 14,
      kind: 'key',
      hint: expect.stringContaining('identityFile'),
    })
    expect(failure.message).not.toContain('\n')
    const { stderr } = await lab.pgrecall(args)
    expect(stderr.trim().split('\n')).toEqual([`pgrecall: ${failure.message}`, `hint: ${failure.hint}`])
    expect(existsSync(target)).toBe(false)
  })

  test('is what it was, for who has the key', async () => {
    await backUp(lab, ['--standalone'])
    const expected = await tableChecksums(lab.cluster)
    const directory = await restoreTo(lab, 'with the key')
    const settings = ['--ignore=postgresql.auto.conf', '--ignore=recovery.signal']
    await lab.cluster.verifyBackup(directory, settings)
    await lab.cluster.archiveWal()
    const server = await lab.adopt(directory, { settings: { archive_mode: 'off' } })
    await server.start()
    await server.waitForPromotion()
    expect(await tableChecksums(server)).toEqual(expected)
  })

  test('with a wrong byte is damaged, and the object is named', async () => {
    const { id, objects } = await backUp(lab)
    const shard = objects.filter(({ kind }) => kind === 'shard').sort((a, b) => b.bytes - a.bytes)[0]!
    const path = join(folderOf(id), shard.name)
    const whole = await readFile(path)
    const hurt = Buffer.from(whole)
    hurt[hurt.length >> 1]! ^= 1
    await writeFile(path, hurt)
    const args = ['restore', '--data-directory', join(lab.scratch.path, 'hurt')]
    expect(await failureOf(lab, args)).toMatchObject({
      exitCode: 9,
      kind: 'damaged',
      message: expect.stringContaining(shard.name),
    })
    await writeFile(path, whole)
    await answerOf(lab, args)
  })

  test.each([
    ['is gone on with', 'with a key'],
    ['begins anew', 'without a key'],
  ] as const)('that was killed %s on a host %s', async (_what, kind) => {
    await lab.cluster.sql('CHECKPOINT')
    await lab.cluster.waitUntil(`(SELECT max((pg_stat_file(pg_relation_filepath(oid))).modification) FROM pg_class
      WHERE relname LIKE 'pgbench%' AND relkind = 'r') < now() - interval '3 seconds'`)
    await becomeHost(kind)
    const before = await readdir(join(lab.repository, 'main/backups'))
    const { process: running } = await lab.startPgrecall(['backup', '--max-rate', '8MB'])
    const killed = await poll(
      async () => {
        const id = (await readdir(join(lab.repository, 'main/backups'))).find(
          (name) => !before.includes(name),
        )
        const names = id === undefined ? [] : await readdir(folderOf(id))
        return names.filter((name) => name.includes('.index.')).length >= 8 ? id : undefined
      },
      { what: 'eight shards', everyMs: 10 },
    )
    running.kill('SIGKILL')
    await running
    const { id, resumedBytes, objects } = await backUp(lab)
    expect(id === killed).toBe(kind === 'with a key')
    if (kind === 'with a key') expect(resumedBytes).toBeGreaterThan(MIB)
    else expect(resumedBytes).toBe(0)
    expect((await readdir(folderOf(id))).sort()).toEqual(
      [...objects.map(({ name }) => name), 'backup.json'].sort(),
    )
    expect(existsSync(folderOf(killed))).toBe(kind === 'with a key')
    await becomeHost('with a key')
    const directory = await restoreTo(lab, `restored ${kind}`)
    const settings = ['--ignore=postgresql.auto.conf', '--ignore=recovery.signal']
    await lab.cluster.run('pg_verifybackup', ['--no-parse-wal', ...settings, directory])
  })
})
