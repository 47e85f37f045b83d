import type { Events } from '../events.ts'
import { type Beginning, type Ending, factsOf } from './facts.ts'
import { type Listeners, listenersOf, type TellSurroundings, tell } from './tell.ts'

/** More warnings than anybody reads in a message. */
const WARNINGS = 50

/**
 * Does something, and tells the hooks and notices before and after it. Whatever they do, the outcome is that of `work`.
 * @param work what is done
 * @param errorFacts an error in sentences, with its exit code
 * @throws what `work` throws, and the reason of the signal where it was aborted before the work began
 */
export async function tellAround<Outcome extends { json: unknown; exitCode?: number }>(
  work: () => Promise<Outcome>,
  beginning: Beginning,
  listeners: Listeners,
  surroundings: TellSurroundings & {
    events: Events
    now: () => Date
    errorFacts: (error: unknown) => Pick<Ending, 'error' | 'exitCode'>
  },
): Promise<Outcome> {
  const { events, signal, now, errorFacts } = surroundings
  const announce = async (ending?: Ending) => {
    const facts = factsOf(beginning, ending)
    await tell(facts, listenersOf(facts, listeners), surroundings)
  }
  await announce()
  const warnings: string[] = []
  let isAtWork = true
  events.on('warning', ({ text }) => {
    if (isAtWork && warnings.length < WARNINGS) warnings.push(text)
  })
  const end = async (how: Pick<Ending, 'error' | 'exitCode' | 'result'>) => {
    isAtWork = false
    await announce({ finishedAt: now(), warnings, ...how })
  }
  try {
    signal.throwIfAborted()
    const outcome = await work()
    await end({ exitCode: outcome.exitCode ?? 0, error: null, result: outcome.json })
    return outcome
  } catch (error) {
    // Only the work throws here.
    await end({ ...errorFacts(error), result: null })
    throw error
  }
}
