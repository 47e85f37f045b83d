import { existsSync } from 'node:fs'
import { readdir, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { requireServer } from '../lab/programs.ts'
import { succeed } from './killed.ts'
import { isStartable, problemsInRestored } from './restored.ts'
import { addTablespace, createSmallLab } from './small-lab.ts'
import { distinct, failuresOf, type Step, Stopper } from './stopped.ts'

const ROOTS = /(?:TARGET|SPACE)\//
/** Of the many ordinary files the first ones and the last. */
const isOrdinary = (name: string) =>
  ROOTS.test(name) && (name.startsWith('thread:') || /^rm /.test(name)) && !/pg_control|pg_tblspc/.test(name)

function chosen(steps: readonly Step[]): Step[] {
  const ours = distinct(steps).filter(({ name }) => /TARGET|SPACE/.test(name))
  const ordinary = ours.filter(({ name }) => isOrdinary(name))
  const few = [...ordinary.slice(0, 2), ...ordinary.slice(-1)]
  return ours.filter((step) => !ordinary.includes(step) || few.includes(step))
}

test('a delta that is stopped at any of its steps leaves nothing that starts, and can be repeated', {
  timeout: 600_000,
}, async (context) => {
  requireServer(context)
  await using lab = await createSmallLab()
  await addTablespace(lab, 'space')
  await succeed(lab, ['backup', '--type', 'full', '--jobs', '2'])
  const target = join(lab.scratch.path, 'restored/data')
  const space = join(lab.scratch.path, 'restored/space')
  const roots = { [lab.repository]: 'REPOSITORY', [target]: 'TARGET', [space]: 'SPACE' }
  const stopper = await Stopper.create(lab, roots)
  const plain = ['restore', '-D', target, '--tablespace', `space=${space}`, '--jobs', '2']
  const delta = [...plain, '--delta']
  const stray = join(target, 'base/stray')
  const hurt = async () => {
    const [database] = await readdir(join(target, 'base'))
    await writeFile(stray, 'not in the backup')
    await rm(join(target, 'PG_VERSION'))
    await truncate(join(target, 'base', database!, '1259'), 100)
  }
  await succeed(lab, plain)
  await hurt()
  const steps = chosen(await stopper.record((env) => lab.pgrecall(delta, { env })))
  expect(steps.length).toBeGreaterThan(8)
  let isDelta = false
  const failures = await failuresOf(steps, async (step) => {
    await hurt()
    await stopper.stop(step, (env) => lab.pgrecall(delta, { env }))
    // What starts was not begun, or is finished.
    const isBegun = !existsSync(stray) || existsSync(join(target, 'PG_VERSION'))
    if (isStartable(target) && isBegun) expect(await problemsInRestored(lab, target)).toEqual([])
    isDelta = !isDelta || isStartable(target)
    await succeed(lab, isDelta ? delta : plain)
    expect(await problemsInRestored(lab, target)).toEqual([])
  })
  expect(failures).toEqual([])
})
