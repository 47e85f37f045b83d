import { existsSync } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { succeed } from '../crash/killed.ts'
import { debrisIn, inspect } from '../crash/repository.ts'
import { createSmallLab } from '../crash/small-lab.ts'
import { distinct, failuresOf, Stopper } from '../crash/stopped.ts'
import { makeRepository } from '../lab/lab.ts'
import { requireServer } from '../lab/programs.ts'

// One job, since two make the same folder once or twice, as it happens.
const COPY = ['copy', '--from', 'origin', '--to', 'local', '--jobs', '1']

test('a copy that is stopped at any of its steps has listed only what is whole, and goes on', {
  timeout: 900_000,
}, async (context) => {
  requireServer(context)
  await using lab = await createSmallLab()
  await succeed(lab, ['backup', '--jobs', '1'])
  await lab.cluster.archiveWal()
  await lab.cluster.stop()
  const origin = join(lab.scratch.path, 'origin')
  await rename(lab.repository, origin)
  await makeRepository(lab.repository)
  await lab.writeConfiguration(({ repositories, clusters }) => {
    repositories.origin = { type: 'local', path: origin }
    clusters.main!.repositories = ['local', 'origin']
  })
  const stopper = await Stopper.create(lab, { [lab.repository]: 'REPOSITORY', [origin]: 'ORIGIN' })
  const steps = await stopper.record((env) => lab.pgrecall(COPY, { env }))
  const whole = await inspect(lab)
  expect(whole).toEqual({ ids: [expect.any(String)], problems: [] })
  const commit = steps.findIndex(({ name }) => /^rename .*backup\.json$/.test(name))
  expect(commit).toBeGreaterThan(0)

  const failures = await failuresOf(distinct(steps), async (step) => {
    await rm(lab.repository, { recursive: true })
    await makeRepository(lab.repository)
    // Retention sweeps what the run before has left there.
    await rm(join(origin, 'main/pins'), { recursive: true, force: true })
    await stopper.stop(step, (env) => lab.pgrecall(COPY, { env }))
    if (steps.indexOf(step) > commit) expect(await inspect(lab)).toEqual(whole)
    else expect(isListed(lab.repository, whole.ids[0]!)).toBe(false)
    await succeed(lab, COPY)
    expect(await inspect(lab)).toEqual(whole)
    expect(await debrisIn(lab.repository)).toEqual([])
  })
  expect(failures).toEqual([])
  expect((await succeed(lab, COPY)).stdout).toContain('Nothing to copy')
})

const isListed = (repository: string, id: string) =>
  existsSync(join(repository, 'main/backups', id, 'backup.json'))
