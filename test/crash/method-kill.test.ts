import { chmod, readdir, rm, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { execa } from 'execa'
import { expect, type TestContext, test } from 'vitest'
import { expectBalanced, expectClean } from '../backup/clean.ts'
import { backUp, recover } from '../backup/commands.ts'
import { tableChecksums } from '../lab/checksums.ts'
import { Lab, type LabOptions } from '../lab/lab.ts'
import { poll } from '../lab/poll.ts'
import { descendantsOf, isAlive } from '../lab/processes.ts'
import { resultOf } from '../lab/product.ts'
import { requireServer } from '../lab/programs.ts'
import { giveToLabUser } from '../lab/user.ts'
import { LoopDisk } from '../snapshot/loop-disk.ts'
import { Chance } from './chance.ts'
import { durationOf, succeed } from './killed.ts'
import { idsOf, inspect, lastingDebrisIn } from './repository.ts'
import { addTablespace } from './small-lab.ts'

/** Kills a method; each is followed by a backup that must work. */
const ROUNDS = Number(process.env.PGRECALL_CRASH_ROUNDS ?? 3)
/** In every so many rounds, and in the last one, that backup is restored. */
const RESTORE_EVERY = 5
/** An interrupted backup is interrupted again so often before it may come to its end. */
const KILLS_IN_A_ROW = 2
/** What a killed pgrecall has started ends by itself within this: at its next write, or when its input ends. */
const ORPHANS_LIVE_MS = 5000

const options = { timeout: 120_000 + ROUNDS * 30_000 }
const SETTINGS = { max_wal_size: '64MB' }

/** A lab in which backups are taken by one method, and what has to be done around them. */
interface Ground extends AsyncDisposable {
  lab: Lab
  args: string[]
  /** Whether the server has to be down while the backup is taken. */
  isCold?: boolean
  /** Whether a backup may carry its own WAL as well as none. */
  mayStandAlone?: boolean
  /** Folders in which nothing may stay. */
  places: string[]
  restore?: string[]
}

const GROUNDS: Record<string, (context: TestContext) => Promise<Ground>> = {
  'stream, by pg_basebackup,': async () => ({ ...(await labWith('stream')), mayStandAlone: true }),

  'stream, by the protocol,': async () => {
    const ground = await labWith('stream')
    await addTablespace(ground.lab, 'space')
    const elsewhere = `space=${join(ground.lab.scratch.path, 'elsewhere')}`
    return { ...ground, mayStandAlone: true, restore: ['--tablespace', elsewhere] }
  },

  snapshot: async (context) => {
    await using owned = new AsyncDisposableStack()
    const disk = owned.use(await LoopDisk.mount(context, 'xfs'))
    const lab = owned.use(await labOn(disk))
    await fill(lab)
    const stack = owned.move()
    return {
      lab,
      args: ['backup', '--method', 'snapshot'],
      mayStandAlone: true,
      places: [disk.path],
      [Symbol.asyncDispose]: () => stack.disposeAsync(),
    }
  },

  cold: async () => ({ ...(await labWith('cold')), isCold: true }),
}

for (const [name, prepare] of Object.entries(GROUNDS)) {
  test(
    `a backup by ${name} that is killed at any moment leaves nothing that stays`,
    options,
    async (context) => {
      requireServer(context)
      const chance = new Chance()
      console.info(`PGRECALL_CRASH_SEED=${chance.seed} repeats the moments of these ${ROUNDS} kills: ${name}`)
      await using ground = await prepare(context)
      const { lab } = ground
      if (ground.isCold) await lab.cluster.stop()
      let durationMs = await durationOf(lab, ground.args)
      const before = await contentOf(ground)
      let killed = 0
      for (let round = 1; round <= ROUNDS; round++) {
        const moment = chance.next() * durationMs
        const args = ground.mayStandAlone && round % 2 === 0 ? [...ground.args, '--standalone'] : ground.args
        try {
          const { wasKilled, tookMs } = await killOnce(ground, args, moment)
          if (wasKilled) killed++
          else durationMs = tookMs
          expect(await contentOf(ground)).toEqual(before)
          if (round % RESTORE_EVERY === 0 || round === ROUNDS) await requireRestores(ground, round)
        } catch (error) {
          const { message } = error as Error
          throw new Error(`round ${round}, killed after ${moment.toFixed(0)} ms: ${message}`, {
            cause: error,
          })
        }
      }
      // A kill that comes too late proves nothing; there may be some.
      expect(killed).toBeGreaterThan(ROUNDS / 4)
    },
  )
}

test(
  'a backup that is killed again and again is gone on with, whatever was written in between',
  options,
  async (context) => {
    requireServer(context)
    const chance = new Chance()
    console.info(`PGRECALL_CRASH_SEED=${chance.seed} repeats the moments of these kills: files, resumed`)
    const configure: LabOptions['configure'] = ({ clusters }) => {
      clusters.main!.backup = { shardSize: '1MB' }
    }
    await using lab = await Lab.create({ settings: SETTINGS, configure })
    await fill(lab)
    await recreate(lab, 0)
    const args = ['backup', '--jobs', '2']
    const durationMs = await durationOf(lab, args)
    let resumedBytes = 0
    for (let round = 1, kills = 0; round <= ROUNDS; round++) {
      await using load = lab.cluster.startPgbench({ args: ['--rate=200'] })
      const before = await idsOf(lab)
      for (let count = 0; count < KILLS_IN_A_ROW; count++) {
        // Late enough for some shards to be stored.
        await killFamily(lab, args, (0.4 + chance.next() * 0.6) * durationMs)
        const left = await inspect(lab)
        expect(left.problems).toEqual([])
        expect(left.ids.length).toBeLessThanOrEqual(before.length + count + 1)
        if (++kills % 3 === 0) await recreate(lab, kills)
      }
      const record = await backUp(lab, ['--jobs', '2'])
      resumedBytes += record.resumedBytes
      expect((await inspect(lab)).problems).toEqual([])
      expect(await lastingDebrisIn(lab.repository)).toEqual([])

      expect(await load.stop()).not.toContain('error')
      const expected = await tableChecksums(lab.cluster)
      await lab.cluster.archiveWal()
      const server = await recover(lab, `restored-${round}`, [record.id])
      await server.waitForPromotion()
      expect(await tableChecksums(server)).toEqual(expected)
      await expectBalanced(server)
      await expectClean(server)
      await rm(server.dataDirectory, { recursive: true })
    }
    expect(resumedBytes).toBeGreaterThan(0)
  },
)

/** Kills a backup, looks at what it left, and takes one that must work. */
async function killOnce(ground: Ground, args: string[], moment: number) {
  const { lab, isCold } = ground
  if (isCold) await lab.cluster.start()
  await lab.cluster.sql('INSERT INTO ledger SELECT n, md5(random()::text) FROM generate_series(1, 5000) AS n')
  if (isCold) await lab.cluster.stop()
  const before = await idsOf(lab)
  const result = await killFamily(lab, args, moment)
  const left = await inspect(lab)
  expect(left.problems).toEqual([])
  // One that was killed after its record was stored is a backup.
  expect(left.ids.slice(0, before.length)).toEqual(before)
  expect(left.ids.length).toBeLessThanOrEqual(before.length + 1)
  if (!isCold) await sessionsEnd(lab)

  await succeed(lab, args)
  expect((await idsOf(lab)).length).toBe(left.ids.length + 1)
  expect((await inspect(lab)).problems).toEqual([])
  expect(await lastingDebrisIn(lab.repository)).toEqual([])
  if (!isCold) await sessionsEnd(lab)
  return result
}

/**
 * Starts pgrecall and ends it, and nothing that it has started, with SIGKILL after so long.
 * @throws when what it has started lives on
 */
async function killFamily(lab: Lab, args: string[], delayMs: number) {
  const begun = performance.now()
  const { process: running } = await lab.startPgrecall(args)
  const over = new AbortController()
  const ending = resultOf(running).finally(() => over.abort())
  await pause(delayMs, undefined, { signal: over.signal }).catch(() => {})
  const children = running.pid === undefined || over.signal.aborted ? [] : descendantsOf(running.pid)
  running.kill('SIGKILL')
  const { signal } = await ending
  await poll(() => !children.some(isAlive), {
    what: 'the end of what a killed pgrecall had started',
    timeoutMs: ORPHANS_LIVE_MS,
  })
  return { wasKilled: signal === 'SIGKILL', tookMs: performance.now() - begun }
}

/** No session of pgrecall's stays on the server, and no slot. */
async function sessionsEnd(lab: Lab): Promise<void> {
  await lab.cluster.waitUntil(
    `NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'pgrecall')
      AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'walsender')
      AND NOT EXISTS (SELECT FROM pg_replication_slots)`,
  )
}

async function requireRestores({ lab, isCold, restore = [] }: Ground, round: number): Promise<void> {
  if (isCold) await lab.cluster.start()
  const expected = await tableChecksums(lab.cluster)
  await lab.cluster.archiveWal()
  const server = await recover(lab, `restored-${round}`, restore)
  await server.waitForPromotion()
  expect(await tableChecksums(server)).toEqual(expected)
  await expectClean(server)
  await rm(server.dataDirectory, { recursive: true })
  await rm(join(lab.scratch.path, 'elsewhere'), { recursive: true, force: true })
  if (isCold) await lab.cluster.stop()
}

/** The names in the folders where something could be left, the data directory's among them. */
async function contentOf({ lab, places }: Ground): Promise<Record<string, string[]>> {
  // A trial of reflinks that was killed is swept by one that comes a minute later.
  const isOurs = (name: string) =>
    !/^(?:postmaster\.|adopted-|restored-|elsewhere|\.pgrecall-trial-)/.test(name)
  const content: Record<string, string[]> = {}
  for (const place of [lab.cluster.dataDirectory, lab.scratch.path, ...places])
    content[place] = (await readdir(place)).filter(isOurs).sort()
  return content
}

async function labWith(method: string): Promise<Ground> {
  const lab = await Lab.create({ settings: SETTINGS })
  await fill(lab)
  const args = ['backup', '--method', method]
  return { lab, args, places: [], [Symbol.asyncDispose]: () => lab[Symbol.asyncDispose]() }
}

/** A lab whose data directory lies on a disk of its own. */
async function labOn(disk: LoopDisk): Promise<Lab> {
  await chmod(disk.outside, 0o755)
  await giveToLabUser(disk.path)
  const place = await disk.folder('pg')
  await giveToLabUser(place)
  const lab = await Lab.create({
    start: false,
    settings: SETTINGS,
    configure: ({ clusters }) => {
      clusters.main!.backup = { snapshot: { provider: 'reflink', snapshotFolder: disk.path } }
    },
  })
  const { dataDirectory } = lab.cluster
  await execa('cp', ['-a', dataDirectory, join(place, 'data')])
  await rm(dataDirectory, { recursive: true })
  await symlink(join(place, 'data'), dataDirectory)
  await lab.cluster.start()
  return lab
}

async function fill(lab: Lab): Promise<void> {
  await lab.cluster.pgbench(['--initialize', '--quiet', '--scale=1'])
  await lab.cluster.sql('CREATE TABLE ledger (n int, text text)')
}

/** A table that is dropped and made again has another content in as many bytes. */
async function recreate(lab: Lab, salt: number): Promise<void> {
  await lab.cluster.sql(`
    DROP TABLE IF EXISTS again;
    CREATE TABLE again AS SELECT n, md5((n + ${salt})::text) AS text FROM generate_series(1, 20000) AS n`)
}
