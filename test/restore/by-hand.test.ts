import { existsSync } from 'node:fs'
import { readFile, rename, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { escapeLiteral } from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import { backUp, folderOfPrograms, labFolder } from '../backup/commands.ts'
import { type TableChecksum, tableChecksums } from '../lab/checksums.ts'
import type { Cluster } from '../lab/cluster.ts'
import { Lab } from '../lab/lab.ts'
import { newKey } from '../lab/lab-repository.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { asLabUser } from '../lab/user.ts'
import { objectOf } from '../wal/segments.ts'

const PROGRAMS = [
  'sh',
  'tar',
  'age',
  'zstd',
  'gzip',
  'find',
  'mkdir',
  'chmod',
  'ln',
  'ls',
  'cat',
  'cp',
  'rm',
  'touch',
  'dirname',
]

let lab: Lab
let path: string

describe.skipIf(!findPrograms() && !process.env.CI)(
  'RESTORE.txt, run as a script with tar, zstd and a shell',
  () => {
    beforeAll(async () => {
      lab = await Lab.create()
      path = await folderOfPrograms(lab.scratch, PROGRAMS)
      await lab.cluster.sql('CREATE TABLE numbers AS SELECT generate_series(1, 10000) AS n')
    })
    beforeEach((context) => void requireServer(context))
    afterAll(() => lab?.[Symbol.asyncDispose]())

    test.each(['zstd:1', 'gzip:6', 'none'])('restores a backup with compression %s', async (codec) => {
      const record = await backUp(lab, ['--compression', codec])
      await lab.cluster.sql(`INSERT INTO numbers VALUES (${record.files})`)
      const before = await tableChecksums(lab.cluster)
      await lab.cluster.archiveWal()
      const server = await restoreByHand(record, `by hand ${codec}`)
      expect(await tableChecksums(server)).toEqual(before)
    })

    test.each(['zstd:1', 'gzip:6', 'none'])(
      'restores an encrypted backup with compression %s, and archived WAL of both kinds',
      async (codec) => {
        await using key = await encrypting()
        const record = await backUp(lab, ['--compression', codec])
        await lab.cluster.sql(`INSERT INTO numbers VALUES (${record.files})`)
        await key.forget()
        await lab.cluster.archiveWal()
        await lab.cluster.sql(`INSERT INTO numbers VALUES (${record.files})`)
        const before = await tableChecksums(lab.cluster)
        await lab.cluster.archiveWal()
        const IDENTITY = key.identityFile
        const server = await restoreByHand(record, `encrypted ${codec}`, { IDENTITY })
        expect(await tableChecksums(server)).toEqual(before)
        const DATA = join(lab.scratch.path, 'without a key')
        const { exitCode, stderr } = await runScript(record, { DATA })
        expect(exitCode).not.toBe(0)
        expect(stderr).toContain('say which file holds the secret key')
        expect(existsSync(DATA)).toBe(false)
      },
    )

    test('stops a recovery when archived WAL cannot be decrypted', async () => {
      await using key = await encrypting()
      const record = await backUp(lab)
      const server = await restoreByHand(record, 'undecryptable', { IDENTITY: key.identityFile })
      const { commandFor, codeFor } = await fetching(server)
      expect(commandFor('x')).not.toContain('AGE-SECRET-KEY')
      expect(await codeFor(record.start.walFile)).toBe(0)
      expect(await codeFor('0000000100000000000000FF')).toBe(1)
      const object = `${objectOf(lab, record.start.walFile)}.age`
      const whole = await readFile(object)
      await truncate(object, whole.length - 1)
      expect(await codeFor(record.start.walFile)).toBe(200)
      await writeFile(object, whole)
      await rename(key.identityFile, `${key.identityFile}.aside`)
      expect(await codeFor(record.start.walFile)).toBe(200)
      await rename(`${key.identityFile}.aside`, key.identityFile)
    })

    test('restores a standalone backup without the archive', async () => {
      const before = await tableChecksums(lab.cluster)
      const record = await backUp(lab, ['--standalone'])
      const WAL = await lab.scratch.folder('no archive')
      const server = await restoreByHand(record, 'standalone', { WAL }, [])
      expect(await tableChecksums(server)).toEqual(before)
    })

    test('restores tablespaces to other places', async () => {
      const location = await labFolder(join(lab.scratch.path, `sp "ace"`))
      await lab.cluster.sql(`CREATE TABLESPACE ts LOCATION ${escapeLiteral(location)}`)
      await lab.cluster.sql('CREATE TABLE elsewhere TABLESPACE ts AS SELECT generate_series(1, 1000) AS n')
      const record = await backUp(lab)
      const before: TableChecksum[] = await tableChecksums(lab.cluster)
      const place = join(lab.scratch.path, 'new "place"')
      const link = join(lab.scratch.path, 'link')
      await symlink(join(lab.repository, 'main/wal'), link)
      const server = await restoreByHand(record, 'spaces', {
        [`TABLESPACE_${record.tablespaces[0]!.oid}`]: place,
        WAL: link,
      })
      expect(await tableChecksums(server)).toEqual(before)
      const [row] = await server.sql(
        `SELECT pg_tablespace_location(oid) AS place FROM pg_tablespace WHERE spcname = 'ts'`,
      )
      expect(row).toEqual({ place })
    })

    test('leaves a restore_command that tells an outage from the end of the WAL', async () => {
      const record = await backUp(lab)
      const server = await restoreByHand(record, 'commanded')
      const { codeFor } = await fetching(server)
      expect(await codeFor(record.start.walFile)).toBe(0)
      expect(await codeFor('0000000100000000000000FF')).toBe(1)
      const object = objectOf(lab, record.start.walFile)
      await truncate(object, 1000)
      expect(await codeFor(record.start.walFile)).toBe(200)
      await rename(lab.repository, `${lab.repository}.aside`)
      expect(await codeFor(record.start.walFile)).toBe(200)
      await rename(`${lab.repository}.aside`, lab.repository)
    })

    test('refuses an archive whose path would spoil the setting, and names the way out', async () => {
      const record = await backUp(lab)
      const DATA = join(lab.scratch.path, 'quoted')
      for (const WAL of ["/it's", '/100%', '/$HOME', '/a`b', '/a"b', '/a\\b']) {
        const { exitCode, stderr } = await runScript(record, { DATA, WAL })
        expect(exitCode).toBe(1)
        expect(stderr).toContain('WAL=/a/link')
      }
      expect(existsSync(DATA)).toBe(false)
    })

    test('refuses a folder that is not empty', async () => {
      const record = await backUp(lab)
      const { exitCode, stderr } = await runScript(record, { DATA: lab.cluster.dataDirectory })
      expect(exitCode).toBe(1)
      expect(stderr).toContain('not empty')
    })
  },
)

/** The server's programs get the poor PATH too: its restore_command has nothing but standard tools. */
async function restoreByHand(
  record: BackupRecord,
  name: string,
  variables: Record<string, string> = {},
  verifyOptions = ['--no-parse-wal'],
): Promise<Cluster> {
  const DATA = join(lab.scratch.path, name)
  const { exitCode, stderr } = await runScript(record, { DATA, ...variables })
  expect(stderr).toBe('')
  expect(exitCode).toBe(0)
  // The script writes the settings of the recovery into a file that the manifest knows.
  const known = ['--ignore=postgresql.auto.conf', '--ignore=recovery.signal']
  await lab.cluster.verifyBackup(DATA, [...verifyOptions, ...known])
  const server = await lab.adopt(DATA, { settings: { archive_mode: 'off' } })
  await server.start()
  await server.waitForPromotion()
  return server
}

/** What a server's restore_command does for a file, with nothing but standard tools. */
async function fetching(server: Cluster) {
  const [setting] = await server.sql<{ restore_command: string }>('SHOW restore_command')
  const commandFor = (name: string) =>
    setting!.restore_command.replaceAll('%f', name).replaceAll('%p', 'fetched')
  const options = {
    ...asLabUser,
    cwd: lab.scratch.path,
    env: { PATH: path },
    extendEnv: false,
    reject: false,
  }
  const codeFor = async (name: string) =>
    (await execa(join(path, 'sh'), ['-c', commandFor(name)], options)).exitCode
  return { commandFor, codeFor }
}

/** From now on everything is encrypted, until this is forgotten. */
async function encrypting() {
  const { identityFile, recipients } = await newKey(lab.scratch)
  await lab.writeConfiguration(({ repositories }) => {
    repositories.local!.encryption = { recipients }
  })
  const forget = () => lab.writeConfiguration()
  return { identityFile, forget, [Symbol.asyncDispose]: forget }
}

function runScript(record: BackupRecord, variables: Record<string, string>) {
  const script = join(lab.repository, 'main/backups', record.id, 'RESTORE.txt')
  return execa(join(path, 'sh'), [script], {
    ...asLabUser,
    cwd: lab.scratch.path,
    env: { PATH: path, HOME: lab.scratch.path, ...variables },
    extendEnv: false,
    reject: false,
  })
}
