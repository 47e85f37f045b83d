import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { zstdDecompressSync } from 'node:zlib'
import { expect, test } from 'vitest'
import { answerOf, backUp } from '../backup/commands.ts'
import type { Cluster } from '../lab/cluster.ts'
import { Lab } from '../lab/lab.ts'
import { requireServer } from '../lab/programs.ts'
import { objectOf } from '../wal/segments.ts'
import { Chance } from './chance.ts'
import { list } from './repository.ts'
import { target } from './restored.ts'
import { killArchiver, killPush, killServer } from './wal-chaos-kills.ts'
import { type Commit, commitsAfter, Ledger, ledgerState } from './wal-chaos-ledger.ts'

/** For a soak: more of them. */
const ROUNDS = Number(process.env.PGRECALL_CHAOS_ROUNDS ?? 20)
const LONGEST_PAUSE_MS = 1500
const RESTORES = 10
const SIDE_BY_SIDE = 2
/** Segments of 1 MiB: their number follows the first eight digits of the timeline. */
const SEGMENTS_IN_LOG = 4096

test('what PostgreSQL archives is whole, whatever is killed meanwhile, and every commit can be restored', {
  timeout: 180_000 + ROUNDS * 30_000,
}, async (context) => {
  requireServer(context)
  const chance = new Chance()
  console.info(`PGRECALL_CRASH_SEED=${chance.seed} repeats the order of these ${ROUNDS} kills`)
  await using lab = await startLab()
  await using ledger = await Ledger.start(lab.cluster)
  const { stop } = await backUp(lab)

  await killAround(lab.cluster, chance)
  await ledger.stop()
  await lab.cluster.archiveWal()

  await requireWholeArchive(lab)
  const commits = await commitsAfter(lab.cluster, stop.lsn)
  expect(commits.length).toBeGreaterThan(RESTORES)
  // A time needs a later commit, which shows that it is over.
  const chosen = chance.shuffled(commits.slice(0, -1)).slice(0, RESTORES)
  await inLanes(chosen, (commit, index) => requireRestore(lab, commit, index % 2 === 0 ? 'xid' : 'time'))
})

async function startLab(): Promise<Lab> {
  const lab = await Lab.create({
    initdb: ['--wal-segsize=1'],
    // The server keeps all that it ever wrote, for the comparison.
    settings: { wal_keep_size: '1TB', track_commit_timestamp: true },
  })
  await lab.cluster.pgbench(['--initialize', '--quiet', '--scale=1'])
  return lab
}

/**
 * Every other kill is the server's: only then does PostgreSQL start an archiver at once. After the end of an archiver,
 * also by a command that was killed, it may take ten seconds.
 * @see PgArchCanRestart in src/backend/postmaster/pgarch.c
 */
async function killAround(cluster: Cluster, chance: Chance): Promise<void> {
  for (let killed = 0; killed < ROUNDS; killed++) {
    const kill = killed % 2 === 1 ? killServer : chance.below(3) > 0 ? killPush : killArchiver
    await using _load = cluster.startPgbench({ args: ['--rate=50'] })
    await pause(chance.below(LONGEST_PAUSE_MS))
    await kill(cluster, chance)
  }
}

/** Every segment from the first archived one on, with the bytes that the server has. */
async function requireWholeArchive(lab: Lab): Promise<void> {
  const { gaps, damaged } = await list(lab)
  expect({ gaps, damaged }).toEqual({ gaps: [], damaged: [] })
  const folder = join(lab.cluster.dataDirectory, 'pg_wal')
  const status = await readdir(join(folder, 'archive_status'))
  expect(status.filter((name) => name.endsWith('.ready'))).toEqual([])
  const names = status.map((name) => name.replace(/\.done$/, '')).toSorted()
  const segments = names.filter((name) => name.length === 24)
  const numbers = segments.map(segmentNumber)
  expect(numbers).toEqual(Array.from(numbers, (_, index) => numbers[0]! + index))
  expect(segments.length).toBeGreaterThan(ROUNDS)
  for (const name of names) {
    const [stored, written] = await Promise.all([readFile(objectOf(lab, name)), readFile(join(folder, name))])
    // Past the first frame, which zstd skips, there is one ordinary frame.
    const plain = zstdDecompressSync(stored.subarray(8 + stored.readUInt32LE(4)))
    expect(plain.equals(written), name).toBe(true)
  }
}

async function requireRestore(lab: Lab, commit: Commit, kind: 'xid' | 'time'): Promise<void> {
  await using restored = target(lab)
  const options = [`--${kind}`, commit[kind], '--data-directory', restored.path, '--archive-mode', 'off']
  await answerOf(lab, ['restore', ...options])
  await using copy = await lab.adopt(restored.path)
  await copy.start()
  await copy.waitForPaused(120_000)
  expect(await ledgerState(copy), `${kind} ${commit[kind]}`).toEqual(await ledgerState(lab.cluster, commit.n))
  // pgbench moves what it notes: a transaction in halves would show.
  const [sums] = await copy.sql(`
    SELECT (SELECT coalesce(sum(abalance), 0) FROM pgbench_accounts) AS accounts,
      (SELECT coalesce(sum(delta), 0) FROM pgbench_history) AS history`)
  expect(sums!.accounts).toEqual(sums!.history)
  await copy.stop('immediate')
}

function segmentNumber(name: string): number {
  return parseInt(name.slice(8, 16), 16) * SEGMENTS_IN_LOG + parseInt(name.slice(16), 16)
}

async function inLanes<T>(all: readonly T[], work: (one: T, index: number) => Promise<void>): Promise<void> {
  const left = [...all.entries()]
  const lane = async () => {
    for (let next = left.shift(); next; next = left.shift()) await work(next[1], next[0])
  }
  await Promise.all(Array.from({ length: SIDE_BY_SIDE }, lane))
}
