import { chmod, mkdir, open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { BaseBackupOptions } from '../../src/postgres/base-backup.ts'
import { backupArguments, findPgBasebackup, pgBasebackup } from '../../src/postgres/pg-basebackup.ts'
import { Scratch } from '../lab/scratch.ts'

const OPTIONS: BaseBackupOptions = {
  connection: { host: 'db.example', user: 'backup', password: 'secret' },
  serverVersion: 150_018,
  label: 'nightly',
  checkpoint: 'spread',
  wal: false,
  onWarning: () => {},
  onWaiting: () => {},
  signal: new AbortController().signal,
}

test('what is asked for arrives as options', () => {
  expect(backupArguments({ ...OPTIONS, maxRateKiB: 2048 })).toEqual(
    expect.arrayContaining([
      '--max-rate=2048k',
      '--wal-method=none',
      '--checkpoint=spread',
      '--label=nightly',
    ]),
  )
  expect(backupArguments({ ...OPTIONS, wal: true, checkpoint: 'fast' })).toEqual(
    expect.arrayContaining(['--wal-method=fetch', '--checkpoint=fast', '--no-password']),
  )
})

test('the manifest of an incremental backup comes by the input', () => {
  expect(backupArguments({ ...OPTIONS, parentManifest: 17 })).toContain('--incremental=/dev/stdin')
  expect(backupArguments(OPTIONS).join(' ')).not.toContain('--incremental')
})

describe('the program', () => {
  test('is taken from PATH when the server is not newer', async () => {
    await using scratch = await Scratch.create()
    const path = await fakeProgram(scratch, 'echo "pg_basebackup (PostgreSQL) 98.1"')
    const env = { PATH: `${scratch.path}/bin:/usr/bin:/bin` }
    expect(await findPgBasebackup(98, env)).toEqual({ path, majorVersion: 98 })
    expect(await findPgBasebackup(99, env)).toBeUndefined()
  })

  test('is told the password by its environment alone', async () => {
    await using scratch = await Scratch.create()
    const path = await fakeProgram(scratch, 'echo "$@" "$PGPASSWORD" "$PGAPPNAME"')
    const parts = pgBasebackup({ path, majorVersion: 15 }, { PATH: '/usr/bin:/bin' }, OPTIONS)
    const bytes = (await Array.fromAsync(parts))
      .map((part) => ('bytes' in part ? part.bytes.toString() : ''))
      .join('')
    expect(bytes).toContain('--host=db.example --username=backup')
    expect(bytes).toMatch(/^(?!.*secret.*secret).* secret pgrecall$/m)
  })

  test.each([
    [
      'pg_basebackup: error: could not initiate base backup: ERROR:  requested WAL segment 00000001 has already been removed',
      { kind: 'failed', message: /requested WAL segment 00000001/, hint: /wal_keep_size/ },
    ],
    [
      'pg_basebackup: error: could not initiate base backup: ERROR:  WAL level not sufficient for making an online backup\nHINT:  wal_level must be set to "replica"',
      { kind: 'failed', message: /WAL level not sufficient/, hint: /wal_level/ },
    ],
    [
      'pg_basebackup: error: connection to server at "db" (10.0.0.1), port 5432 failed: FATAL:  no pg_hba.conf entry for replication connection from host "10.1.2.3", user "backup", no encryption',
      {
        kind: 'connection',
        message: /could not connect: no pg_hba/,
        hint: /"host replication backup 10\.1\.2\.3\/32 scram-sha-256"/,
      },
    ],
    [
      'pg_basebackup: error: connection to server on socket "x" failed: FATAL:  must be superuser or replication role to start walsender',
      { kind: 'connection', message: /replication role/, hint: /ALTER ROLE "backup" REPLICATION/ },
    ],
    [
      'pg_basebackup: error: could not read COPY data: server closed the connection unexpectedly',
      { kind: 'connection', message: /lost the server/, hint: /log/ },
    ],
  ])('fails in words: %s', async (words, { kind, message, hint }) => {
    await using scratch = await Scratch.create()
    const path = await fakeProgram(scratch, `cat >&2 <<'END'\n${words}\nEND\nexit 1`)
    const parts = pgBasebackup({ path, majorVersion: 15 }, { PATH: '/usr/bin:/bin' }, OPTIONS)
    await expect(Array.fromAsync(parts)).rejects.toMatchObject({
      kind,
      message: expect.stringMatching(message),
      hint: expect.stringMatching(hint),
    })
  })

  test('reads the manifest of an incremental backup, and is heard while it waits', async () => {
    await using scratch = await Scratch.create()
    const path = await fakeProgram(
      scratch,
      'cat /dev/stdin; echo "WARNING:  still waiting for WAL summarization through 0/28 after 10 seconds" >&2',
    )
    await using manifest = await open(await scratch.file('manifest', 'the manifest'))
    const [warnings, waited]: string[][] = [[], []]
    const options: BaseBackupOptions = {
      ...OPTIONS,
      parentManifest: manifest.fd,
      onWarning: (text) => warnings!.push(text),
      onWaiting: (text) => waited!.push(text),
    }
    const parts = pgBasebackup({ path, majorVersion: 17 }, { PATH: '/usr/bin:/bin' }, options)
    const bytes = (await Array.fromAsync(parts)).map((part) => ('bytes' in part ? part.bytes.toString() : ''))
    expect(bytes.join('')).toBe('the manifest')
    expect(waited).toEqual(['still waiting for WAL summarization through 0/28 after 10 seconds'])
    expect(warnings).toEqual([])
  })

  test('hands warnings on and takes damaged pages for one', async () => {
    await using scratch = await Scratch.create()
    const words =
      'WARNING:  checksum verification failed in file "./base/1/2"\nNOTICE:  x\npg_basebackup: error: checksum error occurred'
    const path = await fakeProgram(scratch, `cat >&2 <<'END'\n${words}\nEND\nexit 1`)
    const warnings: string[] = []
    const options = { ...OPTIONS, onWarning: (text: string) => warnings.push(text) }
    await Array.fromAsync(pgBasebackup({ path, majorVersion: 15 }, { PATH: '/usr/bin:/bin' }, options))
    expect(warnings).toEqual([
      'checksum verification failed in file "./base/1/2"',
      'the server found damaged pages in what it sent',
    ])
  })
})

async function fakeProgram(scratch: Scratch, script: string): Promise<string> {
  const path = join(scratch.path, 'bin', 'pg_basebackup')
  await mkdir(join(scratch.path, 'bin'))
  await writeFile(path, `#!/bin/sh\n${script}\n`)
  await chmod(path, 0o755)
  return path
}
