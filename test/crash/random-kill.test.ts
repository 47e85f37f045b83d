import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { tableChecksums } from '../lab/checksums.ts'
import { Lab } from '../lab/lab.ts'
import type { RunOptions } from '../lab/product.ts'
import { requireServer } from '../lab/programs.ts'
import { Chance } from './chance.ts'
import { durationOf, killAfter, succeed } from './killed.ts'
import { idsOf, inspect, lastingDebrisIn, readSegment, segmentFile } from './repository.ts'
import { isStartable, problemsInRestored, recoveredTables, target } from './restored.ts'

const ROUNDS = Number(process.env.PGRECALL_CRASH_ROUNDS ?? 16)
/** In every so many rounds the restored directory gets a server, whose tables are compared. */
const SERVER_EVERY = 5

/** One command that is about to be killed, and what must hold after that. */
interface Attempt {
  args: string[]
  options?: RunOptions
  /** Checks what the killed run left. */
  afterKill?: () => Promise<void>
  /** Runs the same command again, and checks that it worked. */
  again: () => Promise<void>
  cleanUp?: () => PromiseLike<void>
}

const ATTEMPTS: Record<string, (lab: Lab) => Promise<Attempt>> = {
  backup: async (lab) => ({
    args: BACKUP,
    again: async () => {
      const before = await idsOf(lab)
      await succeed(lab, BACKUP)
      expect(await idsOf(lab)).toEqual([...before, expect.any(String)])
    },
  }),

  restore: async (lab) => {
    const { path, [Symbol.asyncDispose]: cleanUp } = target(lab)
    const args = restoreOf((await idsOf(lab)).at(-1)!, path)
    let isComplete = false
    return {
      args,
      cleanUp,
      afterKill: async () => {
        isComplete = isStartable(path)
        if (isComplete) expect(await problemsInRestored(lab, path)).toEqual([])
      },
      again: async () => {
        const { exitCode, stderr } = await lab.pgrecall(args)
        if (isComplete) expect(stderr).toContain('holds a PostgreSQL cluster')
        else expect(exitCode, stderr).toBe(0)
        expect(await problemsInRestored(lab, path)).toEqual([])
      },
    }
  },

  'wal-push': async (lab) => {
    const name = await unarchived(lab)
    const path = join('pg_wal', name)
    // As PostgreSQL calls it.
    const options = { cwd: lab.cluster.dataDirectory }
    return {
      args: ['wal-push', path],
      options,
      again: async () => {
        await succeed(lab, ['wal-push', path], options)
        const original = await readFile(join(lab.cluster.dataDirectory, path))
        expect(original.equals(await readSegment(lab.repository, name))).toBe(true)
      },
    }
  },

  retention: async (lab) => {
    while ((await idsOf(lab)).length < 3) await succeed(lab, BACKUP)
    const newest = (await idsOf(lab)).at(-1)
    return {
      args: RETENTION,
      again: async () => {
        await succeed(lab, RETENTION)
        expect(await idsOf(lab)).toEqual([newest])
      },
    }
  },
}

const BACKUP = ['backup', '--jobs', '2']
const RETENTION = ['retention', '--full', '1']
const restoreOf = (id: string, path: string) => ['restore', id, '--data-directory', path, '--jobs', '2']

test('after a kill at any moment the last good backup restores, and the same command works', {
  timeout: 60_000 + ROUNDS * 15_000,
}, async (context) => {
  requireServer(context)
  const chance = new Chance()
  console.info(`PGRECALL_CRASH_SEED=${chance.seed} repeats the moments of these ${ROUNDS} kills`)
  await using lab = await startLab()
  const durations = await measure(lab)
  const killed: string[] = []
  for (let round = 1, commands: string[] = []; round <= ROUNDS; round++) {
    if (commands.length === 0) commands = chance.shuffled(Object.keys(ATTEMPTS))
    const command = commands.pop()!
    const moment = chance.next() * durations[command]!
    const what = `round ${round}: ${command} killed after ${moment.toFixed(0)} ms`
    try {
      const { signal, tookMs } = await killOnce(lab, command, moment, round % SERVER_EVERY === 0)
      if (signal === 'SIGKILL') killed.push(command)
      // It was over before the kill: what was measured on a busy machine is too long.
      else durations[command] = tookMs
    } catch (error) {
      throw new Error(`${what}: ${(error as Error).message}`, { cause: error })
    }
  }
  await succeed(lab, BACKUP)
  await succeed(lab, RETENTION)
  expect(await lastingDebrisIn(lab.repository)).toEqual([])
  expect((await inspect(lab)).problems).toEqual([])
  console.info(`${killed.length} of ${ROUNDS} were killed before their end: ${tally(killed)}`)
  // A kill that comes too late proves nothing; there may be some, but not many.
  expect(killed.length).toBeGreaterThan(ROUNDS / 2)
})

async function killOnce(lab: Lab, command: string, moment: number, startServer: boolean) {
  await lab.cluster.sql(`INSERT INTO ledger SELECT n, md5(random()::text) FROM generate_series(1, 5000) AS n`)
  const attempt = await ATTEMPTS[command]!(lab)
  const lastGood = (await idsOf(lab)).at(-1)!
  try {
    const result = await killAfter(lab, attempt.args, moment, attempt.options)
    const left = await inspect(lab)
    expect(left.problems).toEqual([])
    expect(left.ids).toContain(lastGood)
    await attempt.afterKill?.()
    await requireRestores(lab, lastGood, startServer && command !== 'wal-push')
    await attempt.again()
    expect((await inspect(lab)).problems).toEqual([])
    if (startServer && command === 'wal-push') await requireRestores(lab, lastGood, true)
    return result
  } finally {
    await attempt.cleanUp?.()
  }
}

async function requireRestores(lab: Lab, id: string, startServer: boolean): Promise<void> {
  await using restored = target(lab)
  if (startServer) await lab.cluster.archiveWal()
  const tables = startServer ? await tableChecksums(lab.cluster) : []
  await succeed(lab, restoreOf(id, restored.path))
  expect(await problemsInRestored(lab, restored.path)).toEqual([])
  if (startServer) expect(await recoveredTables(lab, restored.path)).toEqual(tables)
}

async function startLab(): Promise<Lab> {
  // Segments that were archived stay in pg_wal, to be pushed once more.
  const lab = await Lab.create({ settings: { wal_keep_size: '256MB', max_wal_size: '1GB' } })
  await lab.cluster.pgbench(['--initialize', '--quiet', '--scale=2'])
  await lab.cluster.sql('CREATE TABLE ledger (n int, text text)')
  return lab
}

/** How long each command takes here, in milliseconds. */
async function measure(lab: Lab): Promise<Record<string, number>> {
  await succeed(lab, BACKUP)
  const backup = await durationOf(lab, BACKUP)
  const id = (await idsOf(lab)).at(-1)!
  await using restored = target(lab)
  const restore = await durationOf(lab, restoreOf(id, restored.path))
  const path = join('pg_wal', await unarchived(lab))
  const walPush = await durationOf(lab, ['wal-push', path], { cwd: lab.cluster.dataDirectory })
  const retention = await durationOf(lab, RETENTION)
  return { backup, restore, 'wal-push': walPush, retention }
}

/**
 * The newest segment, as if it had never been archived: wal-push keeps nothing of an earlier run but the stored file.
 */
async function unarchived(lab: Lab): Promise<string> {
  const name = await lab.cluster.archiveWal()
  await rm(segmentFile(lab.repository, name))
  return name
}

function tally(names: string[]): string {
  return Object.keys(ATTEMPTS)
    .map((name) => `${name} ${names.filter((other) => other === name).length}`)
    .join(', ')
}
