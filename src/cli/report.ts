import { PgrecallError, reasonOf, systemCode } from '../errors.ts'
import { redactText } from './redact.ts'
import type { Terminal } from './terminal.ts'
import { UsageError } from './usage-error.ts'

/** An error as `--json` prints it. */
export interface ErrorFacts {
  kind: string
  message: string
  hint: string | null
}

/**
 * Puts an error into sentences, without the secrets that may have got into them.
 * @param consequence what follows from any failure of this command, for the hint
 */
export function errorFacts(error: unknown, consequence: string | undefined): ErrorFacts {
  const known = error instanceof PgrecallError ? error : undefined
  const usage = error instanceof UsageError ? error : undefined
  const hints = [usage?.hint ?? known?.hint, consequence].filter((part) => part !== undefined)
  const message = usage ? usage.message.replace(/^error: /, '') : (known?.message ?? reasonOf(error))
  return {
    kind: known?.kind ?? (usage ? 'usage' : 'internal'),
    message: redactText(message),
    hint: hints.length > 0 ? redactText(joinHints(hints)) : null,
  }
}

/** Behind a question begins a new sentence. */
function joinHints(hints: readonly string[]): string {
  return hints.reduce((said, next) =>
    said.endsWith('?') ? `${said} ${next[0]!.toUpperCase()}${next.slice(1)}` : `${said}; ${next}`,
  )
}

/** Prints an error; the stack only for a bug, or where details were asked for. */
export function tellError(
  error: unknown,
  facts: ErrorFacts,
  terminal: Terminal,
  wantsDetails: boolean,
): void {
  if (error instanceof UsageError && error.code === 'commander.help') return
  const isBug = facts.kind === 'internal'
  const message = isBug ? `${facts.message} (this is a bug in pgrecall)` : facts.message
  for (const line of `pgrecall: ${message}`.split('\n')) terminal.line(line)
  if (facts.hint) terminal.line(`hint: ${facts.hint}`)
  if ((isBug || wantsDetails) && error instanceof Error) terminal.line(redactText(error.stack ?? ''))
}

/** JSON of anything that a command answers. @param indent spaces; one line when left out */
export function asJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, (_key, part) => (typeof part === 'bigint' ? String(part) : part), indent)
}

/**
 * Writes a command's result: its text for people, its JSON for programs, and for cron nothing, unless the answer is bad; or a
 * document of its own.
 * @throws PgrecallError `failed` when it cannot be written; a reader that went away, as `head` does, is no error
 */
export async function writeResult(
  stream: NodeJS.WritableStream,
  { text, json, document, exitCode }: { text: string; json: unknown; document?: string; exitCode?: number },
  options: { json?: unknown; quiet?: unknown; oneLine: boolean },
): Promise<void> {
  const asAsked = () =>
    options.json ? asJson(json, options.oneLine ? undefined : 2) : options.quiet && !exitCode ? '' : text
  const shown = document ?? asAsked()
  if (shown === '') return
  await new Promise<void>((resolve, reject) => {
    stream.once('error', (error) => {
      if (systemCode(error) === 'EPIPE') resolve()
      else reject(new PgrecallError('failed', `cannot write the result: ${error.message}`))
    })
    stream.write(shown.endsWith('\n') ? shown : `${shown}\n`, () => resolve())
  })
}
