import { resolve } from 'node:path'
import { EXIT_CODES, reasonOf } from '../errors.ts'
import { parseWalFile } from '../postgres/wal-file.ts'
import { fetchWalFile, RECOVERY_RETRIES_MS, STANDBY_RETRIES_MS } from '../wal/fetch.ts'
import { runsInStandby } from '../wal/hook-answer.ts'
import { holdsOwnCopy, isBeforeSwitch } from '../wal/own-copy.ts'
import { recoveryCircumstances } from '../wal/prefetch-recovery.ts'
import { endPrefetching, keepPrefetching } from '../wal/prefetch-start.ts'
import { takeReady } from '../wal/ready-segments.ts'
import type { Circumstances } from '../wal/spool.ts'
import type { CommandContext, Run } from './context.ts'

/** `restore_command`. A failure's exit code is for main.ts to choose, since it has to be right for any failure. */
export const run: Run = async ({ args, options }, context) => {
  const [name, path] = args as [string, string]
  const destination = resolve(context.cwd, path)
  // What is ready is a help, and never a reason to fail.
  const recovery = await recoveryOf(name, options, context).catch(() => undefined)
  if (recovery && (await takeReady(recovery, name, destination).catch(() => false))) {
    await prefetchAfter(name, recovery, options, context).catch(() => {})
    return { text: '', json: { found: true, file: name } }
  }
  const repository = await fetchNow(name, destination, context)
  if (repository === undefined) {
    return { text: '', json: { found: false, file: name }, exitCode: EXIT_CODES.absent.code }
  }
  if (recovery) await prefetchAfter(name, recovery, options, context).catch(() => {})
  return { text: '', json: { found: true, file: name, repository } }
}

/** @returns undefined where nothing is kept ready */
async function recoveryOf(
  name: string,
  options: Record<string, unknown>,
  context: CommandContext,
): Promise<Circumstances | undefined> {
  // A person's question, and not PostgreSQL's.
  if (options.json || parseWalFile(name)?.kind !== 'segment') return undefined
  if (context.cluster().config.wal.prefetch === 0) {
    await endPrefetching(context.cwd)
    return undefined
  }
  const { PGRECALL_CALL: call } = context.env
  return recoveryCircumstances({ root: context.cwd, call, config: context.config() })
}

async function fetchNow(
  name: string,
  destination: string,
  context: CommandContext,
): Promise<string | undefined> {
  return fetchWalFile({
    name,
    destination,
    cluster: context.cluster().name,
    repositories: context.repositories(),
    isHoleFilled: await holdsOwnCopy(context.cwd, name),
    isExpected: await isBeforeSwitch(context.cwd, name),
    retryDelaysMs: runsInStandby(context.cwd) ? STANDBY_RETRIES_MS : RECOVERY_RETRIES_MS,
    signal: context.signal,
    onRetry: (error, delayMs) =>
      context.events.emit('warning', { text: `${reasonOf(error)}; trying again in ${delayMs} ms` }),
  })
}

/** The prefetcher runs under the same options, and its notes are for calls such as this one. */
async function prefetchAfter(
  name: string,
  recovery: Circumstances,
  options: Record<string, unknown>,
  { launcher, env }: CommandContext,
): Promise<void> {
  const given = ['config', 'cluster', 'repository'].flatMap((option) =>
    options[option] === undefined ? [] : [`--${option}`, String(options[option])],
  )
  await keepPrefetching(recovery, name, {
    program: launcher,
    args: [...given, 'wal-prefetch', name],
    env: { ...env, PGRECALL_FETCH_CALL: env.PGRECALL_CALL },
  })
}
