import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { expect, test } from 'vitest'
import type { Lab } from '../lab/lab.ts'
import { makeRepository } from '../lab/lab.ts'
import { requireServer } from '../lab/programs.ts'
import { succeed } from './killed.ts'
import { debrisIn, idsOf, inspect, lastingDebrisIn, readSegment } from './repository.ts'
import { createSmallLab } from './small-lab.ts'
import { distinct, failuresOf, Stopper } from './stopped.ts'

const BACKUP = ['backup', '--jobs', '2']
const RETENTION = ['retention', '--full', '1']

test('a backup that is stopped at any of its steps is listed or swept', {
  timeout: 600_000,
}, async (context) => {
  requireServer(context)
  await using lab = await createSmallLab()
  await succeed(lab, BACKUP)
  const stopper = await Stopper.create(lab, { [lab.repository]: 'REPOSITORY' })
  const steps = await stopper.record((env) => lab.pgrecall(BACKUP, { env }))
  // The record is what makes a backup: once it has its name, the backup counts.
  const commit = steps.findIndex(({ name }) => /^rename .*backup\.json$/.test(name))
  expect(commit).toBeGreaterThan(0)

  const failures = await failuresOf(distinct(steps), async (step) => {
    await succeed(lab, RETENTION)
    const before = await idsOf(lab)
    await stopper.stop(step, (env) => lab.pgrecall(BACKUP, { env }))
    const killed = steps.indexOf(step) > commit ? [expect.any(String)] : []
    expect(await inspect(lab)).toEqual({ ids: [...before, ...killed], problems: [] })
    await succeed(lab, BACKUP)
    const again = [expect.any(String)]
    expect(await inspect(lab)).toEqual({ ids: [...before, ...killed, ...again], problems: [] })
    expect(await lastingDebrisIn(lab.repository)).toEqual([])
  })
  expect(failures).toEqual([])
})

test('an incremental backup that is stopped at any of its steps is listed or swept, and its chain stays whole', {
  timeout: 600_000,
}, async (context) => {
  requireServer(context)
  await using lab = await createSmallLab()
  await succeed(lab, BACKUP)
  const [full] = await idsOf(lab)
  const incremental = [...BACKUP, '--type', 'diff']
  const stopper = await Stopper.create(lab, { [lab.repository]: 'REPOSITORY' })
  const steps = await stopper.record((env) => lab.pgrecall(incremental, { env }))
  const commit = steps.findIndex(({ name }) => /^rename .*backup\.json$/.test(name))
  expect(commit).toBeGreaterThan(0)

  const failures = await failuresOf(distinct(steps), async (step) => {
    // Sweeps what the one before has left, its lock too.
    await succeed(lab, RETENTION)
    const before = await idsOf(lab)
    await stopper.stop(step, (env) => lab.pgrecall(incremental, { env }))
    const killed = steps.indexOf(step) > commit ? [expect.stringMatching(/-diff$/)] : []
    expect(await inspect(lab)).toEqual({ ids: [...before, ...killed], problems: [] })
  })
  expect(failures).toEqual([])
  await succeed(lab, incremental)
  const { ids, problems } = await inspect(lab)
  expect(problems).toEqual([])
  expect(await lastingDebrisIn(lab.repository)).toEqual([])
  expect(ids[0]).toBe(full)
  const { stdout } = await succeed(lab, ['show', '--json', ids.at(-1)!])
  expect(JSON.parse(stdout).parent.id).toBe(full)
  await succeed(lab, ['verify'])
})

test('a retention that is stopped at any of its steps keeps what stays', {
  timeout: 600_000,
}, async (context) => {
  requireServer(context)
  await using lab = await createSmallLab()
  for (let count = 0; count < 3; count++) await succeed(lab, BACKUP)
  const newest = (await idsOf(lab)).at(-1)!
  await using repository = await Snapshot.take(lab)
  const stopper = await Stopper.create(lab, { [lab.repository]: 'REPOSITORY' })
  const steps = await stopper.record((env) => lab.pgrecall(RETENTION, { env }))

  const failures = await failuresOf(distinct(steps), async (step) => {
    await repository.reset()
    await stopper.stop(step, (env) => lab.pgrecall(RETENTION, { env }))
    const { ids, problems } = await inspect(lab)
    expect(problems).toEqual([])
    expect(ids).toContain(newest)
    await succeed(lab, RETENTION)
    expect(await inspect(lab)).toEqual({ ids: [newest], problems: [] })
    expect(await debrisIn(lab.repository)).toEqual([])
  })
  expect(failures).toEqual([])
})

test('the first wal-push of all can be stopped at any of its steps', {
  timeout: 600_000,
}, async (context) => {
  requireServer(context)
  await using lab = await createSmallLab({ archive: false, settings: { wal_keep_size: '64MB' } })
  const [row] = await lab.cluster.sql<{ name: string }>('SELECT pg_walfile_name(pg_switch_wal()) AS name')
  const name = row!.name
  const path = join('pg_wal', name)
  const original = await readFile(join(lab.cluster.dataDirectory, path))
  const push = (env: Record<string, string>) =>
    lab.pgrecall(['wal-push', path], { cwd: lab.cluster.dataDirectory, env })
  const stopper = await Stopper.create(lab, { [lab.repository]: 'REPOSITORY' })
  const steps = await stopper.record(push)

  const failures = await failuresOf(steps, async (step) => {
    await rm(lab.repository, { recursive: true, force: true })
    await makeRepository(lab.repository)
    await stopper.stop(step, push)
    // Either it is not there, or it is whole.
    const stored = await readSegment(lab.repository, name).catch(() => undefined)
    expect(stored?.equals(original) ?? true).toBe(true)
    const { exitCode, stderr } = await push({})
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' })
    expect(original.equals(await readSegment(lab.repository, name))).toBe(true)
  })
  expect(failures).toEqual([])
})

/** A copy of a lab's repository, to begin anew from. */
class Snapshot implements AsyncDisposable {
  readonly #repository: string
  readonly #copy: string

  private constructor(repository: string) {
    this.#repository = repository
    this.#copy = `${repository}.snapshot`
  }

  static async take(lab: Lab): Promise<Snapshot> {
    expect(await lastingDebrisIn(lab.repository)).toEqual([])
    const snapshot = new Snapshot(lab.repository)
    await execa('cp', ['-a', snapshot.#repository, snapshot.#copy])
    return snapshot
  }

  async reset(): Promise<void> {
    await rm(this.#repository, { recursive: true })
    await execa('cp', ['-a', this.#copy, this.#repository])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#copy, { recursive: true })
  }
}
