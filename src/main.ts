import { type CommandName, type Invocation, isForAll } from './cli/invocation.ts'
import { buildProgram } from './cli/program.ts'
import { asJson, errorFacts, tellError, writeResult } from './cli/report.ts'
import { decideColor, showsUnicode, Terminal } from './cli/terminal.ts'
import { throwUsageErrors, UsageError } from './cli/usage-error.ts'
import type { CommandContext, Run } from './commands/context.ts'
import { buildContext, VERSION } from './composition.ts'
import { EXIT_CODES, exitCodeOf, PgrecallError } from './errors.ts'
import { Events } from './events.ts'
import { isOperation } from './notices/operations.ts'
import { fetchFailureCode, fetchFailureHint, pushFailureCode } from './wal/hook-answer.ts'

/** One file per verb, loaded when it is called: PostgreSQL calls two of them for every segment. */
const COMMANDS: Record<CommandName, () => Promise<{ run: Run }>> = {
  init: () => import('./commands/init.ts'),
  check: () => import('./commands/check.ts'),
  status: () => import('./commands/status.ts'),
  report: () => import('./commands/report.ts'),
  backup: () => import('./commands/backup.ts'),
  list: () => import('./commands/list.ts'),
  show: () => import('./commands/show.ts'),
  restore: () => import('./commands/restore.ts'),
  retention: () => import('./commands/retention.ts'),
  pin: () => import('./commands/pin.ts'),
  unpin: () => import('./commands/unpin.ts'),
  'wal-push': () => import('./commands/wal-push.ts'),
  'wal-fetch': () => import('./commands/wal-fetch.ts'),
  'wal-prefetch': () => import('./commands/wal-prefetch.ts'),
  'wal-receive': () => import('./commands/wal-receive.ts'),
  'catalog rebuild': () => import('./commands/catalog-rebuild.ts'),
  consolidate: () => import('./commands/consolidate.ts'),
  copy: () => import('./commands/copy.ts'),
  verify: () => import('./commands/verify.ts'),
  'key new': () => import('./commands/key-new.ts'),
  'key rotate': () => import('./commands/key-rotate.ts'),
  'schedule print': () => import('./commands/schedule-print.ts'),
  notify: () => import('./commands/notify.ts'),
  completion: () => import('./commands/completion.ts'),
}

/** What root does as the cluster's owner. A restore needs root's rights, to make folders and give files away. */
const AS_OWNER: ReadonlySet<CommandName> = new Set([
  'check',
  'backup',
  'retention',
  'pin',
  'unpin',
  'status',
  'report',
  'wal-push',
  'wal-receive',
  'catalog rebuild',
  'copy',
  'verify',
  'key rotate',
  'notify',
])

declare const process: NodeJS.Process & {
  initgroups(user: number, group: number): void
}

/** The composition root, with composition.ts: only here the process's surroundings are read, clients built, and is exited. */
export async function main(): Promise<void> {
  const version = VERSION
  const terminal = new Terminal({
    stream: process.stderr,
    color: decideColor(process.env, process.stderr),
    interactive: process.stderr.isTTY === true && process.env.TERM !== 'dumb',
  })
  const wantsJson = process.argv.includes('--json')
  // Help is written by commander, and whoever reads it may go away, as `head` does. Of results writeResult hears too.
  process.stdout.on('error', () => {})
  let exitCode = 0
  try {
    const program = buildProgram(version, async (invocation) => {
      exitCode = await runCommand(invocation, version, terminal)
    })
    throwUsageErrors(program)
    await program.parseAsync()
  } catch (error) {
    terminal.clearStatus()
    exitCode = report(error, terminal, wantsJson)
  }
  terminal.close()
  process.exitCode = exitCode
}

async function runCommand(invocation: Invocation, version: string, terminal: Terminal): Promise<number> {
  const { options } = invocation
  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    let times = 0
    process.on(signal, () => {
      // Impatience must not leave a snapshot, a lock or a paused standby behind; who insists is obeyed.
      if (++times === 2)
        terminal.line('stopping; once more ends it at once, and leaves things for the next run to clean up')
      if (times > 2) process.exit(EXIT_CODES.interrupted.code)
      stop.abort(
        new PgrecallError('interrupted', `stopped by ${signal}`, { hint: 'run the same command again' }),
      )
    })
  }
  const events = new Events()
  const context = await buildContext(invocation, version, events, stop.signal)
  if (context.isRoot && AS_OWNER.has(invocation.command)) await becomeOwner(context, invocation)
  await subscribe(events, terminal, context, invocation)
  const { run } = await COMMANDS[invocation.command]()
  const work = () =>
    run(invocation, context).catch((error) => {
      // Whatever was going on fails in its own words when it is stopped.
      stop.signal.throwIfAborted()
      throw error
    })
  const outcome = isOperation(invocation.command, options)
    ? await (await import('./commands/with-notices.ts')).withNotices(invocation, context, work)
    : await work()
  terminal.clearStatus()
  await writeResult(process.stdout, outcome, { ...options, oneLine: invocation.command === 'wal-receive' })
  return outcome.exitCode ?? 0
}

async function becomeOwner(context: CommandContext, invocation: Invocation): Promise<void> {
  const { ownerOfCluster } = await import('./config/run-as.ts')
  const { findLocalServers } = await import('./config/defaults.ts')
  // What is done for all clusters is done as the owner of the first.
  const name = (isForAll(invocation) ? context.clusters()[0] : undefined) ?? context.cluster().name
  const owner = ownerOfCluster(context.config().config.clusters[name]!, findLocalServers)
  if (!owner) return
  process.initgroups(owner.uid, owner.gid)
  process.setgid?.(owner.gid)
  process.setuid?.(owner.uid)
}

async function subscribe(
  events: Events,
  terminal: Terminal,
  context: CommandContext,
  { command, options }: Invocation,
): Promise<void> {
  const isHook = command === 'wal-push' || command === 'wal-fetch'
  const { attachProgress } = await import('./cli/progress.ts')
  const shown =
    options.progress === false
      ? new Terminal({ stream: process.stderr, color: terminal.color, interactive: false })
      : terminal
  attachProgress(events, shown, {
    clock: () => performance.now(),
    unicode: showsUnicode(process.env),
    quiet: options.quiet === true || isHook,
  })
  if (command === 'wal-receive' && options.json) {
    // It runs until it is stopped: a line for each thing that happens.
    events.on('detail', ({ facts }) => {
      if (facts?.event) process.stdout.write(`${asJson(facts)}\n`)
    })
  }
  // Help and completions work without a configuration; every other command reads it, and fails there with a sentence.
  if (command === 'completion' || command === 'init' || command === 'key new') return
  const { config, warnings } = context.config()
  const level = (options.logLevel as typeof config.log.level | undefined) ?? config.log.level
  const isVerbose = level === 'debug' || level === 'trace'
  if (config.log.file !== undefined || isVerbose) {
    const { createLogger } = await import('./cli/log.ts')
    const log = await createLogger({
      level,
      events,
      file: config.log.file,
      terminal: isVerbose ? terminal : undefined,
    })
    if (log.warning) terminal.line(`warning: ${log.warning}`)
    events.emit('detail', {
      text: `pgrecall ${context.version} ${command}`,
      facts: { arguments: process.argv.slice(2) },
    })
  }
  if (!isHook) for (const text of warnings) events.emit('warning', { text })
}

/** The one place where an error is told. @returns the exit code */
function report(error: unknown, terminal: Terminal, wantsJson: boolean): number {
  if (error instanceof UsageError && error.exitCode === 0) return 0
  const facts = errorFacts(error, verb() === 'wal-fetch' ? fetchFailureHint(process.cwd()) : undefined)
  const wantsDetails = /--log-level[= ](?:debug|trace)/.test(process.argv.join(' '))
  tellError(error, facts, terminal, wantsDetails)
  if (wantsJson) process.stdout.write(`${JSON.stringify({ error: facts }, undefined, 2)}\n`)
  if (isPlugin()) {
    // A monitor shows the first line of stdout.
    process.stdout.write(`UNKNOWN - ${facts.message.replace(/\s+/g, ' ').replaceAll('|', '/')}\n`)
    return PLUGIN_UNKNOWN
  }
  // PostgreSQL acts on the exit codes of its hooks, whatever the reason.
  if (verb() === 'wal-fetch') return fetchFailureCode(process.cwd())
  // It helps only; and a server that is a container's first process takes an orphan's failure for a crash of its own.
  if (process.argv.includes('wal-prefetch')) return 0
  if (error instanceof UsageError) return EXIT_CODES.usage.code
  return verb() === 'wal-push' ? pushFailureCode(error) : exitCodeOf(error)
}

/** Whether a monitoring plugin's answer is asked for, as far as that can be told without a successful parse. */
const isPlugin = () =>
  process.argv.includes('status') && /--format[= ]nagios(?: |$)/.test(process.argv.join(' '))
/** What the interface of plugins has for a state that could not be found out. */
const PLUGIN_UNKNOWN = 3

/** The hook as far as it can be told before, or without, a successful parse. */
const verb = () => (['wal-fetch', 'wal-push'] as const).find((name) => process.argv.includes(name))
