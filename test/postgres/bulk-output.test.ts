import { createHash } from 'node:crypto'
import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { BulkOutput } from '../../src/postgres/bulk-output.ts'
import { ProgramRun } from '../../src/postgres/program-run.ts'
import { Scratch } from '../lab/scratch.ts'

const MIB = 1024 * 1024
/** Neither a number of whole pieces nor of whole writes. */
const BYTES = 9 * MIB + 12_345
/** Writes 4 KiB at a time, as pg_dump does; each line tells which one it is. */
const SCRIPT = `seq -f '%015.0f' 1 ${Math.ceil(BYTES / 16)} | head -c ${BYTES} | dd bs=4096 iflag=fullblock status=none`

function expectedSum(): string {
  const lines = Array.from(
    { length: Math.ceil(BYTES / 16) },
    (_, n) => `${String(n + 1).padStart(15, '0')}\n`,
  )
  return createHash('sha256')
    .update(Buffer.from(lines.join('')).subarray(0, BYTES))
    .digest('hex')
}

const program = { path: '/bin/sh', majorVersion: 0 } as ConstructorParameters<typeof ProgramRun>[0]
const environment = { PATH: process.env.PATH }

async function readAll(script: string, onPiece: (piece: Buffer) => Promise<void> | void): Promise<void> {
  using bulk = await BulkOutput.open()
  await using run = new ProgramRun(program, environment, { args: ['-c', script], input: false, bulk })
  for await (const piece of run.stdout) await onPiece(piece)
  expect(await run.ended()).toMatchObject({ isGood: true })
}

describe.each([
  { way: 'over a connection of its own', folder: 't' },
  // A socket's path has at most 107 bytes.
  { way: 'as the output of a child, where there can be none', folder: 'long-'.repeat(30) },
])('what a program gives out, $way', ({ folder }) => {
  let temporary = ''
  beforeEach(async () => {
    const scratch = await Scratch.create('bulk')
    onTestFinished(() => scratch[Symbol.asyncDispose]())
    temporary = join(scratch.path, folder)
    await mkdir(temporary)
    vi.stubEnv('TMPDIR', temporary)
  })
  afterEach(() => vi.unstubAllEnvs())

  test('comes whole, in pieces of 1 MiB, to one that is as slow as it wants to be', async () => {
    const hash = createHash('sha256')
    const lengths: number[] = []
    await readAll(SCRIPT, async (piece) => {
      lengths.push(piece.length)
      const before = Buffer.from(piece)
      for (let turn = 0; turn < 20; turn++) await setImmediate()
      // Nothing is read into it as long as the next one was not asked for.
      expect(piece.equals(before)).toBe(true)
      hash.update(piece)
    })
    expect(hash.digest('hex')).toBe(expectedSum())
    expect(new Set(lengths.slice(0, -1))).toEqual(new Set([MIB]))
    expect(lengths.at(-1)).toBe(BYTES % MIB)
    expect(await readdir(temporary)).toEqual([])
  })

  test.each([0, 1, MIB, 2 * MIB, 3 * MIB])('ends where it ends: %i bytes', async (bytes) => {
    let read = 0
    await readAll(`head -c ${bytes} /dev/zero`, (piece) => {
      read += piece.length
    })
    expect(read).toBe(bytes)
  })

  test('ends the program when nobody reads on', async () => {
    using bulk = await BulkOutput.open()
    const run = new ProgramRun(program, environment, {
      args: ['-c', 'exec cat /dev/zero'],
      input: false,
      bulk,
    })
    for await (const _ of run.stdout) break
    await run[Symbol.asyncDispose]()
    expect(await run.ended()).toMatchObject({ isGood: false })
  })
})
