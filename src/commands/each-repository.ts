import type { Repository } from '../catalog/repository.ts'
import { exitCodeOf, PgrecallError, reasonOf } from '../errors.ts'
import type { CommandContext } from './context.ts'

/** What came of a command in one repository. */
export type Answer<T> = { repository: string } & ({ result: T } | { error: unknown })

/**
 * Does something in each repository, one after the other. One that fails does not keep the others from it, and is told by a warning.
 * @returns the answers, and the exit code of the first required repository that failed
 * @throws what the first one failed with, when all did
 */
export async function inEachRepository<T>(
  { repositories, events, signal }: Pick<CommandContext, 'repositories' | 'events' | 'signal'>,
  work: (repository: Repository) => Promise<T>,
): Promise<{ answers: Answer<T>[]; exitCode: number }> {
  const all = repositories()
  const answers: Answer<T>[] = []
  let exitCode = 0
  for (const repository of all) {
    const { name, required } = repository
    try {
      answers.push({ repository: name, result: await work(repository) })
    } catch (error) {
      signal.throwIfAborted()
      if (all.length === 1 || !(error instanceof PgrecallError)) throw error
      events.emit('warning', { text: `repository "${name}": ${reasonOf(error)}` })
      answers.push({ repository: name, error })
      if (required && exitCode === 0) exitCode = exitCodeOf(error)
    }
  }
  const [first] = answers
  if (first && 'error' in first && answers.every((answer) => 'error' in answer)) throw first.error
  return { answers, exitCode }
}

/** For people: what failed, and what to do. */
export function failureText(error: unknown): string {
  const hint = error instanceof PgrecallError && error.hint ? `\n${error.hint}` : ''
  return `It failed: ${reasonOf(error)}${hint}`
}

/** For programs. */
export function failureFacts(repository: string, error: unknown) {
  const kind = error instanceof PgrecallError ? error.kind : 'internal'
  return { repository, error: { kind, message: reasonOf(error) } }
}
