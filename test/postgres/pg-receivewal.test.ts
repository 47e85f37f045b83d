import { existsSync } from 'node:fs'
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import {
  describeEnd,
  findPgReceivewal,
  pgReceivewal,
  type ReceivingOptions,
  receivingArguments,
} from '../../src/postgres/pg-receivewal.ts'
import { poll } from '../lab/poll.ts'
import { Scratch } from '../lab/scratch.ts'

const OPTIONS: ReceivingOptions = {
  connection: { host: 'db.example', user: 'backup', password: 'secret' },
  directory: '/received',
  slot: 'pgrecall',
  synchronous: false,
  signal: new AbortController().signal,
}

test('what is asked for arrives as options', () => {
  expect(receivingArguments(OPTIONS)).toEqual([
    '--directory=/received',
    '--slot=pgrecall',
    '--status-interval=1',
    '--no-loop',
    '--no-password',
  ])
  expect(receivingArguments({ ...OPTIONS, synchronous: true })).toContain('--synchronous')
})

const REMOVED = '000000010000000000000008'

describe('its last words', () => {
  test.each<[string, string, string | undefined]>([
    ['pg_receivewal: error: disconnected', 'exit code 1', undefined],
    [
      `pg_receivewal: error: could not send replication command "START_REPLICATION": ERROR:  requested WAL segment ${REMOVED} has already been removed\npg_receivewal: error: disconnected`,
      `requested WAL segment ${REMOVED} has already been removed`,
      REMOVED,
    ],
    // The server's language is not ours to choose.
    [
      `pg_receivewal: error: could not receive data from WAL stream: ERREUR:  le segment demandé du journal de transactions, ${REMOVED}, a déjà été supprimé`,
      `could not receive data from WAL stream: ERREUR: le segment demandé du journal de transactions, ${REMOVED}, a déjà été supprimé`,
      REMOVED,
    ],
    [
      `pg_receivewal: error: could not open file "/received/${REMOVED}.partial": No space left on device`,
      `could not open file "/received/${REMOVED}.partial": No space left on device`,
      undefined,
    ],
    ['', 'exit code 1', undefined],
  ])('%s', (words, reason, removedSegment) => {
    expect(describeEnd(words, 'exit code 1')).toEqual({ reason, removedSegment })
  })
})

describe('the program', () => {
  test('lies beside pg_basebackup, and is missed with a sentence', async () => {
    await using scratch = await Scratch.create()
    const bin = await programIn(scratch, 'pg_basebackup', 'echo "pg_basebackup (PostgreSQL) 99.1"')
    const env = { PATH: `${bin}:/usr/bin:/bin` }
    await expect(findPgReceivewal(99, env)).rejects.toMatchObject({
      kind: 'refused',
      hint: expect.stringMatching(/postgresql-client-99/),
    })
    await programIn(scratch, 'pg_receivewal', 'true')
    expect(await findPgReceivewal(99, env)).toEqual({ path: join(bin, 'pg_receivewal'), majorVersion: 99 })
  })

  test('gets its password by the environment, and ends when it is told to', async () => {
    await using scratch = await Scratch.create()
    const seen = join(scratch.path, 'seen')
    const bin = await programIn(
      scratch,
      'pg_receivewal',
      `trap 'echo interrupted >>${seen}; exit 0' INT
echo "$PGPASSWORD $PGAPPNAME $*" >${seen}.new && mv ${seen}.new ${seen}
while :; do sleep 0.05; done`,
    )
    const stop = new AbortController()
    const program = { path: join(bin, 'pg_receivewal'), majorVersion: 99 }
    const end = pgReceivewal(program, { PATH: '/usr/bin:/bin' }, { ...OPTIONS, signal: stop.signal })
    await poll(() => existsSync(seen), { what: 'the program' })
    stop.abort()
    await end
    const [first, second] = (await readFile(seen, 'utf8')).split('\n')
    expect(first).toMatch(/^secret pgrecall --host=db\.example --username=backup --directory/)
    expect(second).toBe('interrupted')
  })

  test('that ends by itself is not waited for, and nobody is interrupted in its place', async () => {
    await using scratch = await Scratch.create()
    const bin = await programIn(scratch, 'pg_receivewal', 'echo "pg_receivewal: error: no luck" >&2; exit 1')
    const program = { path: join(bin, 'pg_receivewal'), majorVersion: 99 }
    expect(await pgReceivewal(program, { PATH: '/usr/bin:/bin' }, OPTIONS)).toEqual({
      reason: 'no luck',
      removedSegment: undefined,
    })
  })
})

async function programIn(scratch: Scratch, name: string, script: string): Promise<string> {
  const bin = join(scratch.path, 'bin')
  await mkdir(bin, { recursive: true })
  await writeFile(join(bin, name), `#!/bin/sh\n${script}\n`)
  await chmod(join(bin, name), 0o755)
  return bin
}
