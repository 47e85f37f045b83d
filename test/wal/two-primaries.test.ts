import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readdir, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Cluster } from '../lab/cluster.ts'
import { Lab } from '../lab/lab.ts'
import { poll } from '../lab/poll.ts'
import type { RunResult } from '../lab/product.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { objectOf, SMALL_SEGMENTS } from './segments.ts'

const ROUNDS = 20
const ROUNDS_OF_BATCHES = 4
const IN_A_BATCH = 5

let lab: Lab
/** The server that the cluster was, and the one that was started on a copy of its data directory. */
let primary: Cluster
let clone: Cluster

describe.skipIf(!findPrograms() && !process.env.CI)('two primaries that archive into one place', () => {
  beforeAll(async () => {
    // The servers mark what they want archived, and leave it to the test to do it.
    const waiting = { archive_mode: true, archive_command: 'false' }
    lab = await Lab.create({ ...SMALL_SEGMENTS, settings: { ...SMALL_SEGMENTS.settings, ...waiting } })
    primary = lab.cluster
    await primary.stop()
    const copied = join(lab.scratch.path, 'copied')
    await execa('cp', ['--archive', primary.dataDirectory, copied])
    clone = await lab.adopt(copied)
    await Promise.all([primary.start(), clone.start()])
  })
  beforeEach((context) => void requireServer(context))
  afterAll(() => lab?.[Symbol.asyncDispose]())

  test.each([
    ['the first primary pushes first', false],
    ['the second primary pushes first', true],
  ])('%s: the other one is told, and nothing is replaced', async (_who, cloneFirst) => {
    const [name] = await finishSegments(1)
    const [early, late] = cloneFirst ? [clone, primary] : [primary, clone]
    expect(await push(early, name!)).toMatchObject({ exitCode: 0, stderr: '' })
    await requireConflict(late, name!, early)
    // Nor does the one who was first lose its answer, or the other one get through with patience.
    expect(await push(early, name!)).toMatchObject({ exitCode: 0, stderr: '' })
    await requireConflict(late, name!, early)
  })

  test('at the same moment exactly one wins, and the other one is told', async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const [name] = await finishSegments(1)
      const answers = await Promise.all([push(primary, name!), push(clone, name!)])
      expect(answers.map(({ exitCode }) => exitCode).toSorted()).toEqual([0, 8])
      const [winner, loser] = answers[0].exitCode === 0 ? [primary, clone] : [clone, primary]
      await requireConflict(loser, name!, winner)
    }
  })

  test('a conflict within a batch is the affair of the call that asks for it', async () => {
    const names = await finishSegments(IN_A_BATCH)
    const foreign = names[2]!
    await markOnly(clone, [foreign])
    expect(await push(clone, foreign)).toMatchObject({ exitCode: 0 })

    expect(await push(primary, names[0]!)).toMatchObject({ exitCode: 0, stderr: '' })
    for (const name of names) expect(await storedBy(name)).toBe(name === foreign ? clone : primary)
    for (const name of names.toSpliced(2, 1)) expect(await push(primary, name)).toMatchObject({ exitCode: 0 })
    await requireConflict(primary, foreign, clone)
  })

  test('a call whose own file is in conflict fails, and has archived the others', async () => {
    const names = await finishSegments(IN_A_BATCH)
    const foreign = names[0]!
    await markOnly(clone, [foreign])
    expect(await push(clone, foreign)).toMatchObject({ exitCode: 0 })

    await requireConflict(primary, foreign, clone)
    for (const name of names.slice(1)) expect(await storedBy(name)).toBe(primary)
  })

  test('of two batches at the same moment, each segment is kept as one of the two wrote it', async () => {
    for (let round = 0; round < ROUNDS_OF_BATCHES; round++) {
      const names = await finishSegments(IN_A_BATCH)
      await Promise.all([push(primary, names[0]!), push(clone, names[0]!)])
      for (const name of names) {
        const winner = await storedBy(name)
        const loser = winner === primary ? clone : primary
        expect(await push(winner, name)).toMatchObject({ exitCode: 0, stderr: '' })
        await requireConflict(loser, name, winner)
      }
    }
  })
})

/** As a server's archiver calls it. */
function push(server: Cluster, name: string): Promise<RunResult> {
  return lab.pgrecall(['wal-push', `pg_wal/${name}`], { cwd: server.dataDirectory })
}

/** A push that fails as it should, and leaves what the other one has stored. */
async function requireConflict(loser: Cluster, name: string, winner: Cluster): Promise<void> {
  const { exitCode, stderr } = await push(loser, name)
  expect(exitCode, stderr).toBe(8)
  expect(stderr).toContain(`${name} is already in repository "local" with other bytes`)
  for (const server of [loser, winner]) expect(stderr).toContain((await sumOf(server, name)).slice(0, 16))
  expect(stderr).toContain('it was not overwritten')
  expect(stderr).toContain('two servers write into one archive')
  expect(await storedBy(name)).toBe(winner)
}

/** Both servers write segments of the same names, with contents of their own; only these wait for the archive. */
async function finishSegments(count: number): Promise<string[]> {
  const names: string[] = []
  for (let n = 0; n < count; n++) {
    const [name, other] = await Promise.all([primary, clone].map(finishSegment))
    expect(other).toBe(name)
    expect(await sumOf(clone, name!)).not.toBe(await sumOf(primary, name!))
    names.push(name!)
  }
  for (const server of [primary, clone]) await markOnly(server, names)
  return names
}

async function finishSegment(server: Cluster): Promise<string> {
  const [row] = await server.sql<{ name: string }>(
    `SELECT pg_logical_emit_message(false, 'lab', gen_random_uuid()::text); SELECT pg_walfile_name(pg_switch_wal()) AS name`,
  )
  const ready = join(server.dataDirectory, 'pg_wal/archive_status', `${row!.name}.ready`)
  await poll(() => existsSync(ready), { what: ready })
  return row!.name
}

/** Marks these as waiting for the archive, and all others as archived. */
async function markOnly(server: Cluster, names: string[]): Promise<void> {
  const folder = join(server.dataDirectory, 'pg_wal/archive_status')
  for (const file of await readdir(folder)) {
    const name = file.replace(/\.(ready|done)$/, '')
    await rename(join(folder, file), join(folder, `${name}.${names.includes(name) ? 'ready' : 'done'}`))
  }
}

/** Whose bytes are in the archive. @throws when they are neither's */
async function storedBy(name: string): Promise<Cluster> {
  const plain = execFileSync('zstd', ['-dcq', objectOf(lab, name)], { maxBuffer: 2 ** 26 })
  const sum = createHash('sha256').update(plain).digest('hex')
  for (const server of [primary, clone]) if ((await sumOf(server, name)) === sum) return server
  throw new Error(`what is stored as ${name} was written by neither server`)
}

async function sumOf(server: Cluster, name: string): Promise<string> {
  const bytes = await readFile(join(server.dataDirectory, 'pg_wal', name))
  return createHash('sha256').update(bytes).digest('hex')
}
