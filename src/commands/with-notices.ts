import { randomUUID } from 'node:crypto'
import { statSync } from 'node:fs'
import { hostname } from 'node:os'
import { type Invocation, isForAll } from '../cli/invocation.ts'
import { redactJson } from '../cli/redact.ts'
import { asJson, errorFacts } from '../cli/report.ts'
import { homeOf } from '../config/defaults.ts'
import { exitCodeOf } from '../errors.ts'
import { tellAround } from '../notices/around.ts'
import type { Beginning } from '../notices/facts.ts'
import type { Listeners, TellSurroundings } from '../notices/tell.ts'
import type { CommandContext, Outcome } from './context.ts'

/** Runs an operation between the hooks and notices that the configuration has for it. */
export async function withNotices(
  invocation: Pick<Invocation, 'command' | 'options'>,
  context: CommandContext,
  run: () => Promise<Outcome>,
): Promise<Outcome> {
  const listeners = listenersFor(context, isForAll(invocation))
  if (listeners.hooks.length + listeners.notices.length === 0) return run()
  return tellAround(run, beginningOf(invocation, context), listeners, {
    ...tellSurroundings(context),
    events: context.events,
    now: context.now,
    errorFacts: (error) => ({ error: errorFacts(error, undefined), exitCode: exitCodeOf(error) }),
  })
}

/**
 * The hooks and notices of the whole configuration, then those of the cluster. Root runs no command that somebody else
 * has written down.
 */
export function listenersFor(context: CommandContext, isOfAllClusters: boolean): Listeners {
  const { config, file } = context.config()
  const cluster = isOfAllClusters ? undefined : context.cluster().config
  const hooks = [...config.hooks, ...(cluster?.hooks ?? [])]
  const notices = [...config.notices, ...(cluster?.notices ?? [])]
  if (hooks.length === 0 || file === undefined || process.getuid?.() !== 0) return { hooks, notices }
  const { uid, mode } = statSync(file)
  if (uid === 0 && (mode & 0o022) === 0) return { hooks, notices }
  context.events.emit('warning', {
    text: `no hook is run as root, since others than root can change ${file}`,
  })
  return { hooks: [], notices }
}

/** What is told of every run of a command. */
export function beginningOf(
  invocation: Pick<Invocation, 'command' | 'options'>,
  context: CommandContext,
): Beginning {
  const cluster = isForAll(invocation) ? undefined : context.cluster()
  const named = invocation.options.repository as string | undefined
  return {
    run: randomUUID(),
    operation: invocation.command,
    cluster: cluster?.name ?? null,
    repositories:
      named === undefined ? (cluster?.config.repositories.map(({ name }) => name) ?? []) : [named],
    host: hostname(),
    pgrecall: context.version,
    startedAt: context.now(),
  }
}

/** What a hook may know of our surroundings: nothing that could hold a secret. */
const PASSED_ON = ['PATH', 'LANG', 'LC_ALL', 'LC_CTYPE', 'TZ', 'TMPDIR']

export function tellSurroundings({ events, signal, env, home, isRoot }: CommandContext): TellSurroundings {
  // Root may have become the cluster's owner.
  const own = isRoot ? (homeOf(process.getuid!()) ?? home) : home
  const passedOn = PASSED_ON.flatMap((name) => (env[name] === undefined ? [] : [[name, env[name]]]))
  return {
    events,
    signal,
    env,
    hookEnv: { HOME: own, ...Object.fromEntries(passedOn) },
    asJson: (value) => redactJson(asJson(value)),
  }
}
