import { CommanderError } from 'commander'
import { PgrecallError, reasonOf } from '../errors.ts'
import { redactText } from './redact.ts'
import type { Terminal } from './terminal.ts'

/** An error as `--json` prints it. */
export interface ErrorFacts {
  kind: string
  message: string
  hint: string | null
}

const USAGE_HINT = '"pgrecall --help" shows the commands, "pgrecall help COMMAND" one of them'

/**
 * Puts an error into sentences, without the secrets that may have got into them.
 * @param consequence what follows from any failure of this command, for the hint
 */
export function errorFacts(error: unknown, consequence: string | undefined): ErrorFacts {
  const known = error instanceof PgrecallError ? error : undefined
  const isUsage = error instanceof CommanderError
  const hints = [isUsage ? USAGE_HINT : known?.hint, consequence].filter((part) => part !== undefined)
  const message = isUsage ? error.message.replace(/^error: /, '') : (known?.message ?? reasonOf(error))
  return {
    kind: known?.kind ?? (isUsage ? 'usage' : 'internal'),
    message: redactText(message),
    hint: hints.length > 0 ? redactText(hints.join('; ')) : null,
  }
}

/** Prints an error; the stack only for a bug, or where details were asked for. */
export function tellError(
  error: unknown,
  facts: ErrorFacts,
  terminal: Terminal,
  wantsDetails: boolean,
): void {
  if (error instanceof CommanderError && error.code === 'commander.help') return
  const isBug = facts.kind === 'internal'
  const message = isBug ? `${facts.message} (this is a bug in pgrecall)` : facts.message
  for (const line of `pgrecall: ${message}`.split('\n')) terminal.line(line)
  if (facts.hint) terminal.line(`hint: ${facts.hint}`)
  if ((isBug || wantsDetails) && error instanceof Error) terminal.line(redactText(error.stack ?? ''))
}
