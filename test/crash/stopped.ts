import { readFile, writeFile } from 'node:fs/promises'
import { stripTypeScriptTypes } from 'node:module'
import type { Lab } from '../lab/lab.ts'
import type { RunResult } from '../lab/product.ts'
import { Chance } from './chance.ts'

/** One call of pgrecall that changes something on disk: its name, and its which occurrence. */
export interface Step {
  name: string
  nth: number
}

/** Runs pgrecall with the environment that it is given. */
export type Run = (env: Record<string, string>) => Promise<RunResult>

/** Stops pgrecall at chosen steps, with stop-hook.ts. */
export class Stopper {
  readonly #hook: string
  readonly #log: string
  readonly #roots: Record<string, string>

  private constructor(hook: string, log: string, roots: Record<string, string>) {
    this.#hook = hook
    this.#log = log
    this.#roots = roots
  }

  /** @param roots folders, and what the names of steps call them; the longer of two that begin alike first */
  static async create(lab: Lab, roots: Record<string, string>): Promise<Stopper> {
    const source = await readFile(new URL('./stop-hook.ts', import.meta.url), 'utf8')
    // As JavaScript, since it is loaded hundreds of times.
    const hook = await lab.scratch.file('stop-hook.mjs', stripTypeScriptTypes(source))
    const log = await lab.scratch.file('steps.log', '')
    return new Stopper(hook, log, { ...roots, [lab.scratch.path]: 'LAB' })
  }

  /** All steps of a run to the end. @throws when it fails */
  async record(run: Run): Promise<Step[]> {
    await writeFile(this.#log, '')
    const { exitCode, stderr } = await run(this.#environment({ log: this.#log }))
    if (exitCode !== 0) throw new Error(`the run to be recorded ended with ${exitCode}: ${stderr}`)
    const met = new Map<string, number>()
    const names = (await readFile(this.#log, 'utf8')).trimEnd().split('\n')
    return names.map((name) => {
      met.set(name, (met.get(name) ?? 0) + 1)
      return { name, nth: met.get(name)! }
    })
  }

  /** @throws when the run does not come to the step */
  async stop(step: Step, run: Run): Promise<void> {
    const { exitCode, signal, stderr } = await run(this.environment(step))
    if (signal !== 'SIGKILL') throw new Error(`not stopped, it ended with ${signal ?? exitCode}: ${stderr}`)
  }

  /** What makes a run end at a step. */
  environment({ name, nth }: Step): Record<string, string> {
    return this.#environment({ stopAt: name, nth })
  }

  #environment(request: object): Record<string, string> {
    return {
      NODE_OPTIONS: `--import=${this.#hook}`,
      PGRECALL_TEST_STOP: JSON.stringify({ ...request, roots: this.#roots }),
    }
  }
}

/**
 * Of steps with one name the first and the last, and of a write only its middle, since before it there is just an empty
 * file; all of them where PGRECALL_CRASH_STEPS is `all`.
 */
export function distinct(steps: readonly Step[]): Step[] {
  if (process.env.PGRECALL_CRASH_STEPS === 'all') return [...steps]
  const last = new Map(steps.map(({ name, nth }) => [name, nth]))
  return steps.filter(({ name, nth }) => (nth === 1 || nth === last.get(name)) && !last.has(`${name}, half`))
}

/** In so many runs of the tests each step has its turn. */
const RUNS_FOR_ALL = 3

/**
 * Some of the steps: one of each few that follow each other, which one is told by the seed. Every step where
 * PGRECALL_CRASH_STEPS is `each` (or `all`).
 */
function turnsOf(steps: readonly Step[]): Step[] {
  const wanted = process.env.PGRECALL_CRASH_STEPS
  if (wanted === 'each' || wanted === 'all') return [...steps]
  const chance = new Chance()
  console.info(`PGRECALL_CRASH_SEED=${chance.seed} stops at the same of ${steps.length} steps again`)
  const turns: Step[] = []
  for (let first = 0; first < steps.length; first += RUNS_FOR_ALL) {
    const few = steps.slice(first, first + RUNS_FOR_ALL)
    turns.push(few[chance.below(few.length)]!)
  }
  return turns
}

/**
 * Stops at steps, in their order, and goes on after a failure, so that one does not hide the others.
 * @returns what failed, with the steps' names
 */
export async function failuresOf(
  steps: readonly Step[],
  attempt: (step: Step) => Promise<void>,
): Promise<string[]> {
  const failures: string[] = []
  for (const step of turnsOf(steps)) {
    await attempt(step).catch((error: Error) => {
      failures.push(`stopped at ${step.nth}. "${step.name}": ${error.message.slice(0, 500)}`)
    })
  }
  return failures
}
