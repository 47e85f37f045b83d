import { renderTable } from '../cli/table.ts'
import { EXIT_CODES } from '../errors.ts'
import { type Beginning, type Ending, factsOf, isOccasion, type NoticeFacts } from '../notices/facts.ts'
import type { Hook } from '../notices/run-hook.ts'
import type { Notice } from '../notices/send-notice.ts'
import { type Teller, tell } from '../notices/tell.ts'
import type { Run } from './context.ts'
import { beginningOf, listenersFor, tellSurroundings } from './with-notices.ts'

/** Tells every hook and notice once, each on the first of its occasions, of an operation that does nothing. */
export const run: Run = async ({ options }, context) => {
  const { hooks, notices } = listenersFor(context, false)
  const beginning = beginningOf({ command: 'notify', options }, context)
  const surroundings = { ...tellSurroundings(context), events: { emit: () => {} } }
  const tellOne = (one: Hook | Notice) => {
    const facts = factsOn(one, beginning, context.now())
    const listeners = 'run' in one ? { hooks: [one], notices: [] } : { hooks: [], notices: [one] }
    return tell(facts, listeners, surroundings)
  }
  const tellers: Teller[] = []
  for (const one of [...hooks, ...notices]) tellers.push(...(await tellOne(one)))
  context.signal.throwIfAborted()
  const isFailed = tellers.some(({ told }) => told.failure !== undefined)
  return {
    text:
      tellers.length > 0
        ? textOf(tellers, context.view)
        : 'There are no hooks and no notices in the configuration; docs/hooks.md has examples.',
    json: tellers.map(({ name, told }) => ({ name, failure: told.failure ?? null, output: told.output })),
    exitCode: isFailed ? EXIT_CODES.problems.code : 0,
  }
}

/** Of all that could happen, what this one is told of. */
function factsOn({ on }: Hook | Notice, beginning: Beginning, finishedAt: Date): NoticeFacts {
  const ending: Ending = { finishedAt, exitCode: 0, error: null, warnings: [], result: null }
  const warning = { ...ending, warnings: ['this is a test'] }
  const error = { kind: 'failed', message: 'this is a test', hint: null }
  const failure = { ...ending, exitCode: EXIT_CODES.failed.code, error }
  const possible = [ending, warning, failure, undefined].map((how) => factsOf(beginning, how))
  return possible.find((facts) => isOccasion(on, facts))!
}

function textOf(tellers: readonly Teller[], view: { color: boolean; width: number | undefined }): string {
  const table = renderTable(
    [
      { title: 'Verdict', style: (cell) => (cell === 'pass' ? 'green' : 'red') },
      { title: 'Told', whole: true },
      { title: 'How it went', wraps: true },
    ],
    tellers.map(({ name, told: { failure } }) => [failure ? 'fail' : 'pass', name, failure ?? '']),
    view,
  )
  const said = tellers.flatMap(({ name, told: { output } }) => (output ? [`\n${name} said:`, output] : []))
  return [table, ...said].join('\n')
}
