import type { Events } from '../events.ts'
import { isOccasion, type NoticeFacts } from './facts.ts'
import { type Hook, runHook, type Told } from './run-hook.ts'
import { jsonForNotice, type Notice, nameOfNotice, sendNotice } from './send-notice.ts'
import { timeLimit } from './time-limit.ts'

/** Who is told, and with what. */
export interface Listeners {
  hooks: readonly Hook[]
  notices: readonly Notice[]
}

export interface TellSurroundings {
  events: Pick<Events, 'emit'>
  /** Aborted when the operator wants to stop. */
  signal: AbortSignal
  /** What hooks get of the environment. */
  hookEnv: Record<string, string>
  /** Where the addresses of notices may be. */
  env: Record<string, string | undefined>
  /** JSON without the secrets that may have got into it. */
  asJson: (value: unknown) => string
}

/** One that was told, and how that went. */
export interface Teller {
  name: string
  told: Told
}

/** Those who want to know of these facts. */
export function listenersOf(facts: NoticeFacts, { hooks, notices }: Listeners): Listeners {
  const wants = ({ on, operations }: Hook | Notice) =>
    operations.includes(facts.operation) && isOccasion(on, facts)
  return { hooks: hooks.filter(wants), notices: notices.filter(wants) }
}

/**
 * Runs the hooks one after the other, and sends the notices meanwhile. Nothing is thrown: what goes wrong is a warning,
 * and what a hook says is for the log.
 */
export async function tell(
  facts: NoticeFacts,
  { hooks, notices }: Listeners,
  surroundings: TellSurroundings,
): Promise<Teller[]> {
  const { events, env, hookEnv, signal, asJson } = surroundings
  // An operation that was not begun yet need not begin. What has ended is worth a few seconds.
  const patience = facts.event === 'before' ? 'none' : 'short'
  const report = (name: string, told: Told): Teller => {
    if (told.failure) events.emit('warning', { text: `${name} ${told.failure}` })
    events.emit('detail', { text: `told ${name}`, facts: { ...told } })
    return { name, told }
  }
  const runAll = async () => {
    const ran: Teller[] = []
    for (const hook of hooks) {
      using limit = timeLimit(hook.timeoutMs, signal, patience)
      ran.push(report(`the hook ${hook.run[0]}`, await runHook(hook, facts, asJson(facts), hookEnv, limit)))
    }
    return ran
  }
  const send = async (notice: Notice) => {
    using limit = timeLimit(notice.timeoutMs, signal, patience)
    const told = await sendNotice(notice, jsonForNotice(facts, asJson), env, limit)
    return report(nameOfNotice(notice, env), told)
  }
  const [ran, ...sent] = await Promise.all([runAll(), ...notices.map(send)])
  return [...ran, ...sent]
}
