import { type Command, CommanderError } from 'commander'

/** A command line that is wrong, with what shows how it is right. */
export class UsageError extends CommanderError {
  readonly hint: string

  constructor({ exitCode, code, message }: CommanderError, command: Command) {
    super(exitCode, code, message)
    this.hint = command.parent
      ? `"${nameOf(command)} --help" shows how it is used`
      : '"pgrecall --help" shows the commands, "pgrecall COMMAND --help" how one of them is used'
  }
}

/** Lets a command and all below it throw a UsageError where they would print it and exit. */
export function throwUsageErrors(command: Command): void {
  command
    .exitOverride((error) => {
      throw new UsageError(error, command)
    })
    .configureOutput({ outputError: () => {} })
  for (const child of command.commands) throwUsageErrors(child)
}

/** As it is typed: `pgrecall key new`. */
function nameOf(command: Command): string {
  return command.parent ? `${nameOf(command.parent)} ${command.name()}` : command.name()
}
