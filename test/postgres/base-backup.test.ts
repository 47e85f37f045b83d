import { createHash, randomBytes } from 'node:crypto'
import { open } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { describe, expect, test } from 'vitest'
import {
  type BackupPart,
  type BaseBackupOptions,
  baseBackup,
  baseBackupCommand,
} from '../../src/postgres/base-backup.ts'
import { poll } from '../lab/poll.ts'
import { Scratch } from '../lab/scratch.ts'
import { complete, copyIn, copyOut, error, message, ready, resultSet, ToldServer } from './told-server.ts'

const ASKED = { label: `it's`, checkpoint: 'fast', wal: true } as const
const START = resultSet(['recptr', 'tli'], [['0/2000028', '3']])
const SPACES = resultSet(
  ['spcoid', 'spclocation', 'size'],
  [
    ['16384', '/space', null],
    [null, null, null],
  ],
)
const STOP = resultSet(['recptr', 'tli'], [['0/2000100', '3']])
const END = { lsn: 0x2000100n, timeline: 3 }

describe('the command', () => {
  test.each([
    [120_022, `BASE_BACKUP LABEL 'it''s' FAST WAL NOWAIT MAX_RATE 64`],
    [
      140_023,
      `BASE_BACKUP LABEL 'it''s' FAST WAL NOWAIT MAX_RATE 64 MANIFEST 'yes' MANIFEST_CHECKSUMS 'SHA256'`,
    ],
    [
      150_018,
      `BASE_BACKUP (LABEL 'it''s', CHECKPOINT 'fast', WAL true, WAIT false, MAX_RATE 64, MANIFEST 'yes', MANIFEST_CHECKSUMS 'SHA256')`,
    ],
  ])('of %i', (serverVersion, command) => {
    expect(baseBackupCommand({ ...ASKED, serverVersion, maxRateKiB: 64 })).toBe(command)
  })

  test('of an incremental backup', () => {
    expect(baseBackupCommand({ ...ASKED, serverVersion: 170_000, parentManifest: 5 })).toBe(
      `BASE_BACKUP (LABEL 'it''s', CHECKPOINT 'fast', WAL true, WAIT false, INCREMENTAL, MANIFEST 'yes', MANIFEST_CHECKSUMS 'SHA256')`,
    )
  })

  test('leaves out what was not asked for', () => {
    const asked = { label: '', checkpoint: 'spread', wal: false, serverVersion: 120_000 } as const
    expect(baseBackupCommand(asked)).toBe(`BASE_BACKUP LABEL '' NOWAIT`)
  })
})

/** What comes of an answer of the server's: parts, in short, and warnings. */
async function heard(
  serverVersion: number,
  answer: Buffer | ((socket: Socket, command: string) => void),
  more: Partial<BaseBackupOptions> = {},
) {
  await using scratch = await Scratch.create('told')
  await using server = await ToldServer.listen(
    scratch,
    typeof answer === 'function' ? answer : (socket) => void socket.write(answer),
  )
  const warnings: string[] = []
  const options = { ...optionsFor(server, serverVersion, warnings), ...more }
  const parts = await Array.fromAsync(baseBackup(options), inShort)
  const { commands, copied } = server
  return { parts, warnings, commands, copied }
}

function optionsFor(server: ToldServer, serverVersion: number, warnings: string[] = []): BaseBackupOptions {
  const { connection } = server
  const signal = new AbortController().signal
  return {
    ...ASKED,
    connection,
    serverVersion,
    onWarning: (text) => warnings.push(text),
    onWaiting: () => {},
    signal,
  }
}

function inShort(part: BackupPart): unknown {
  if (part.kind === 'archive') return `archive ${part.tablespaceOid ?? 'base'}`
  if (part.kind === 'start') return 'start'
  return part.kind === 'end' ? part.stop : `${part.kind} ${part.bytes.toString()}`
}

describe('the conversation', () => {
  test('up to 14 has a COPY for each archive, which is ended here, and one for the manifest', async () => {
    const answer = Buffer.concat([
      START,
      SPACES,
      copyOut('one ', 'two'),
      copyOut('base'),
      copyOut('{}'),
      STOP,
      ready,
    ])
    const { parts } = await heard(140_000, answer)
    const endMark = '\0'.repeat(1024)
    expect(parts).toEqual([
      'start',
      'archive 16384',
      `data one two${endMark}`,
      'archive base',
      `data base${endMark}`,
      'manifest {}',
      END,
    ])
  })

  test('from 15 on has one COPY of typed messages', async () => {
    const copy = copyOut(
      'n16384.tar\0/space\0',
      'done ',
      'dtwo',
      'p12345678',
      'nbase.tar\0\0',
      'dbase',
      'm',
      'd{}',
    )
    const { parts } = await heard(150_000, Buffer.concat([START, SPACES, copy, STOP, ready]))
    expect(parts).toEqual([
      'start',
      'archive 16384',
      'data one two',
      'archive base',
      'data base',
      'manifest {}',
      END,
    ])
  })

  test('that ends with damaged pages is whole, with a warning', async () => {
    const notice = message('N', 'SWARNING\0C01000\0Mchecksum verification failed in file "x", block 7\0\0')
    const verdict = error('ERROR', 'XX001', 'checksum verification failure during base backup')
    const copy = copyOut('nbase.tar\0\0', 'dbase')
    const { parts, warnings } = await heard(
      150_000,
      Buffer.concat([START, SPACES, notice, copy, STOP, verdict, ready]),
    )
    expect(parts.at(-1)).toEqual(END)
    expect(warnings).toEqual([
      'checksum verification failed in file "x", block 7',
      'the server found damaged pages: checksum verification failure during base backup',
    ])
  })

  test.each([
    ['XX001', 'could not read', 'failed', /log/],
    ['58P01', 'requested WAL segment has already been removed', 'failed', /wal_keep_size/],
    ['55000', 'WAL level not sufficient for making an online backup', 'failed', /wal_level/],
  ])('that breaks off with %s fails', async (code, text, kind, hint) => {
    const copy = copyOut('nbase.tar\0\0', 'dba')
    const answer = Buffer.concat([START, SPACES, copy, error('ERROR', code, text), ready])
    await expect(heard(150_000, answer)).rejects.toMatchObject({
      kind,
      message: expect.stringContaining(text),
      hint: expect.stringMatching(hint),
    })
  })

  test('whose server goes away fails', async () => {
    const shutdown = error('FATAL', '57P01', 'terminating connection due to administrator command')
    await expect(
      heard(150_000, (socket) => socket.end(Buffer.concat([START, shutdown]))),
    ).rejects.toMatchObject({
      kind: 'connection',
      message: expect.stringContaining('administrator'),
    })
    await expect(heard(150_000, (socket) => socket.end(START))).rejects.toMatchObject({ kind: 'connection' })
  })

  test('without an end is not whole', async () => {
    await expect(heard(150_000, Buffer.concat([START, SPACES, ready]))).rejects.toThrow()
  })
})

describe('an incremental backup', () => {
  const WHOLE = Buffer.concat([START, SPACES, copyOut('nbase.tar\0\0', 'dbase', 'm', 'd{}'), STOP, ready])

  test('is asked for when the server has the manifest', async () => {
    await using scratch = await Scratch.create('told')
    const content = randomBytes(3_000_000)
    await using manifest = await open(await scratch.file('manifest', content))
    const waited: string[] = []
    const notice = 'still waiting for WAL summarization through 0/28 after 10 seconds'
    const { parts, commands, copied, warnings } = await heard(
      170_000,
      (socket, command) => {
        if (command === 'UPLOAD_MANIFEST') socket.write(copyIn)
        else if (command === 'copied') socket.write(Buffer.concat([complete('UPLOAD_MANIFEST'), ready]))
        else socket.write(Buffer.concat([message('N', `SWARNING\0C55000\0M${notice}\0\0`), WHOLE]))
      },
      { parentManifest: manifest.fd, onWaiting: (text) => waited.push(text) },
    )
    expect(commands).toEqual(['UPLOAD_MANIFEST', 'copied', expect.stringContaining(', INCREMENTAL,')])
    expect(Buffer.concat(copied).equals(content)).toBe(true)
    expect(parts.at(-1)).toEqual(END)
    expect(waited).toEqual([notice])
    expect(warnings).toEqual([])
  })

  test('is not asked for when the server refuses the manifest before its end', async () => {
    await using scratch = await Scratch.create('told')
    await using manifest = await open(await scratch.file('manifest', randomBytes(3_000_000)))
    const words = 'system identifier in backup manifest is 1, but database system identifier is 2'
    const answer = Buffer.concat([copyIn, error('ERROR', 'XX000', words), ready])
    const hearing = heard(170_000, (socket) => socket.write(answer), { parentManifest: manifest.fd })
    await expect(hearing).rejects.toMatchObject({
      kind: 'failed',
      message: `the backup that this one builds upon is of another cluster: ${words}`,
      hint: expect.stringContaining('--type full'),
    })
  })

  test('whose manifest cannot be read, or whose server goes away, fails', async () => {
    await using scratch = await Scratch.create('told')
    await using folder = await open(scratch.path)
    const hearing = heard(170_000, (socket) => socket.write(copyIn), { parentManifest: folder.fd })
    await expect(hearing).rejects.toMatchObject({
      kind: 'failed',
      message: expect.stringContaining('EISDIR'),
    })
    await using manifest = await open(await scratch.file('manifest', '{}'))
    const lost = heard(170_000, (socket) => socket.end(copyIn), { parentManifest: manifest.fd })
    await expect(lost).rejects.toMatchObject({ kind: 'connection' })
  })
})

test('the server is held back while nobody takes what it sends', async () => {
  const MIB = 1024 * 1024
  await using scratch = await Scratch.create('told')
  let sent = 0
  await using server = await ToldServer.listen(scratch, (socket) => {
    socket.write(Buffer.concat([START, SPACES, message('H', '\0\0\0'), message('d', 'nbase.tar\0\0')]))
    for (let index = 0; index < 64; index++) {
      const chunk = Buffer.alloc(MIB, index)
      chunk.write('d')
      socket.write(message('d', chunk), () => {
        sent += MIB
      })
    }
    socket.write(Buffer.concat([message('c'), STOP, ready]))
  })
  const parts = baseBackup(optionsFor(server, 150_000))
  await parts.next()
  let before = -1
  const stands = () => {
    const still = sent === before && sent > 0
    before = sent
    return still
  }
  await poll(stands, { what: 'the server to be held back', timeoutMs: 10_000, everyMs: 200 })
  expect(sent).toBeLessThan(24 * MIB)

  // Nothing is lost or mixed up, although the driver uses its buffers again.
  const expected = createHash('sha256')
  for (let index = 0; index < 64; index++) expected.update(Buffer.alloc(MIB - 1, index))
  const arrived = createHash('sha256')
  for await (const part of parts) if (part.kind === 'data') arrived.update(part.bytes)
  expect(arrived.digest('hex')).toBe(expected.digest('hex'))
})

test('the session ends with whoever stops listening', async () => {
  await using scratch = await Scratch.create('told')
  const closed = Promise.withResolvers<void>()
  await using server = await ToldServer.listen(scratch, (socket) => {
    socket.on('close', () => closed.resolve())
    socket.write(Buffer.concat([START, SPACES, message('H', '\0\0\0'), message('d', 'nbase.tar\0\0')]))
  })
  for await (const part of baseBackup(optionsFor(server, 150_000))) {
    expect(part).toMatchObject({ kind: 'start', start: { lsn: 0x2000028n, timeline: 3 } })
    break
  }
  await closed.promise
})
