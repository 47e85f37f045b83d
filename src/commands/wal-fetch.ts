import { resolve } from 'node:path'
import { EXIT_CODES, reasonOf } from '../errors.ts'
import { fetchWalFile, RECOVERY_RETRIES_MS, STANDBY_RETRIES_MS } from '../wal/fetch.ts'
import { runsInStandby } from '../wal/hook-answer.ts'
import { holdsOwnCopy } from '../wal/own-copy.ts'
import type { Run } from './context.ts'

/** `restore_command`. A failure's exit code is for main.ts to choose, since it has to be right for any failure. */
export const run: Run = async ({ args }, context) => {
  const local = await holdsOwnCopy(context.cwd, args[0]!)
  const from = await fetchWalFile({
    name: args[0]!,
    destination: resolve(context.cwd, args[1]!),
    cluster: context.cluster().name,
    repositories: context.repositories(),
    isHoleFilled: local,
    retryDelaysMs: runsInStandby(context.cwd) ? STANDBY_RETRIES_MS : RECOVERY_RETRIES_MS,
    signal: context.signal,
    onRetry: (error, delayMs) =>
      context.events.emit('warning', { text: `${reasonOf(error)}; trying again in ${delayMs} ms` }),
  })
  return from === undefined
    ? { text: '', json: { found: false, file: args[0] }, exitCode: EXIT_CODES.absent.code }
    : { text: '', json: { found: true, file: args[0], repository: from } }
}
