import type { CommandContext } from './context.ts'

/** For one answer. Whoever monitors must tell of a server that is stuck, and not be stuck with it. */
const ANSWER_MS = 30_000

/** The same surroundings for who only looks at a server, and so waits for none that does not answer. */
export function onlyLooking(context: CommandContext): CommandContext {
  const patience = { answerMs: ANSWER_MS, signal: context.signal }
  const connection = async (of?: string) => ({ ...(await context.connection(of)), patience })
  return {
    ...context,
    connection,
    connect: async (of) => (await import('../postgres/server.ts')).Server.connect(await connection(of)),
  }
}
