import type { LookOverQuestion } from '../checks/question.ts'
import { methodOf, requestOf } from './backup-method.ts'
import type { CommandContext } from './context.ts'
import { onlyLooking } from './only-looking.ts'

/** What is asked when the chosen cluster is looked over; it changes nothing. */
export function checkQuestion(given: CommandContext): LookOverQuestion {
  const context = onlyLooking(given)
  const { name, config } = context.cluster()
  const { connection, connect, repositories, launcher, env, home, signal, now } = context
  return {
    cluster: name,
    config,
    loaded: context.config(),
    repositories,
    connection,
    connect,
    launcher,
    env,
    home,
    signal,
    now,
    checkMethod: async () => {
      await using resources = new AsyncDisposableStack()
      const method = await methodOf(config, {}, context, resources)
      return await method.check(requestOf(name, config, {}, context.version))
    },
  }
}
