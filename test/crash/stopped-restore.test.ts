import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { Lab } from '../lab/lab.ts'
import { requireServer } from '../lab/programs.ts'
import { succeed } from './killed.ts'
import { lastingDebrisIn } from './repository.ts'
import { isStartable, problemsInRestored } from './restored.ts'
import { addTablespace, createSmallLab } from './small-lab.ts'
import { distinct, failuresOf, type Step, Stopper } from './stopped.ts'

/** A lab with one backup of a cluster that has a tablespace, and one place to restore it to, again and again. */
class RestoreLab implements AsyncDisposable {
  readonly lab: Lab
  readonly stopper: Stopper
  readonly target: string
  readonly space: string
  readonly args: string[]

  private constructor(lab: Lab, stopper: Stopper, target: string, space: string) {
    this.lab = lab
    this.stopper = stopper
    this.target = target
    this.space = space
    this.args = ['restore', '--data-directory', target, '--tablespace', `space=${space}`, '--jobs', '2']
  }

  static async create(): Promise<RestoreLab> {
    const lab = await createSmallLab()
    await addTablespace(lab, 'space')
    await succeed(lab, ['backup', '--jobs', '2'])
    const target = join(lab.scratch.path, 'restored/data')
    const space = join(lab.scratch.path, 'restored/space')
    const roots = { [lab.repository]: 'REPOSITORY', [target]: 'TARGET', [space]: 'SPACE' }
    return new RestoreLab(lab, await Stopper.create(lab, roots), target, space)
  }

  /**
   * The steps that a kill is tried at: of the many ordinary files only the first ones and the last; and not the removal of
   * emptied folders in the repository, which depends on what killed runs have left there.
   */
  async steps(args = this.args): Promise<Step[]> {
    const all = await this.stopper.record((env) => this.lab.pgrecall(args, { env }))
    const chosen = distinct(all).filter(({ name }) => !name.startsWith('rmdir REPOSITORY'))
    const ordinary = chosen.filter(({ name }) => isOrdinary(name))
    const few = [...ordinary.slice(0, 3), ...ordinary.slice(-1)]
    return chosen.filter((step) => !ordinary.includes(step) || few.includes(step))
  }

  /** Those of them that change the target, and are no mere copying. */
  async stepsAround(args = this.args): Promise<Step[]> {
    return (await this.steps(args)).filter(({ name }) => /TARGET|SPACE/.test(name) && !isCopying(name))
  }

  stop(step: Step, args = this.args): Promise<void> {
    return this.stopper.stop(step, (env) => this.lab.pgrecall(args, { env }))
  }

  async remove(): Promise<void> {
    await rm(join(this.lab.scratch.path, 'restored'), { recursive: true, force: true })
  }

  problems(): Promise<string[]> {
    return problemsInRestored(this.lab, this.target)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.lab[Symbol.asyncDispose]()
  }
}

const isCopying = (name: string) => name.startsWith('thread:') && /(?:TARGET|SPACE)\//.test(name)
const isEmptying = (name: string) => /^rm (?:TARGET|SPACE)\//.test(name)
const isOrdinary = (name: string) =>
  (isCopying(name) || isEmptying(name)) && !/pg_control|backup_label|pg_tblspc|pgrecall\.restore/.test(name)

const options = { timeout: 600_000 }

test(
  'a restore that is stopped at any of its steps leaves nothing that starts, and can be repeated',
  options,
  async (context) => {
    requireServer(context)
    await using restore = await RestoreLab.create()
    const steps = await restore.steps()
    const failures = await failuresOf(steps, async (step) => {
      await restore.remove()
      await restore.stop(step)
      await requireRepeatable(restore)
    })
    expect(failures).toEqual([])
    await requireNoDebris(restore)
  },
)

test(
  'the repetition of a stopped restore can be stopped at any of its steps too',
  options,
  async (context) => {
    requireServer(context)
    await using restore = await RestoreLab.create()
    const late = (await restore.steps()).find(({ name }) => name === 'open TARGET/backup_manifest')!
    const stopLate = async () => {
      await restore.remove()
      await restore.stop(late)
    }
    await stopLate()
    const steps = await restore.stepsAround()
    const failures = await failuresOf(steps, async (step) => {
      await stopLate()
      await restore.stop(step)
      await requireRepeatable(restore)
    })
    expect(failures).toEqual([])
    await requireNoDebris(restore)
  },
)

test(
  'a restore over a cluster that is stopped leaves the old one whole, or nothing that starts',
  options,
  async (context) => {
    requireServer(context)
    await using restore = await RestoreLab.create()
    const forced = [...restore.args, '--force']
    await succeed(restore.lab, restore.args)
    const steps = await restore.stepsAround(forced)
    const failures = await failuresOf(steps, async (step) => {
      await succeed(restore.lab, forced)
      await restore.stop(step, forced)
      const isWhole = isStartable(restore.target)
      // The mark of a restore that has not begun to change anything harms nobody.
      const marker = /pgrecall\.restore\.json/
      if (isWhole) expect((await restore.problems()).filter((text) => !marker.test(text))).toEqual([])
      await succeed(restore.lab, forced)
      expect(await restore.problems()).toEqual([])
    })
    expect(failures).toEqual([])
    await requireNoDebris(restore)
  },
)

/** Nothing that is not whole can start, and the same command makes it whole. */
async function requireRepeatable(restore: RestoreLab): Promise<void> {
  const isWhole = isStartable(restore.target)
  if (isWhole) {
    const { stderr } = await restore.lab.pgrecall(restore.args)
    expect(stderr).toContain('holds a PostgreSQL cluster')
  } else await succeed(restore.lab, restore.args)
  expect(await restore.problems()).toEqual([])
}

/** Killed restores leave the pins of dead processes; retention removes them. */
async function requireNoDebris({ lab }: RestoreLab): Promise<void> {
  await succeed(lab, ['retention', '--full', '1'])
  expect(await lastingDebrisIn(lab.repository)).toEqual([])
}
