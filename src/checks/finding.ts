import { reasonOf } from '../errors.ts'
import type { ProbeFinding } from '../storage/storage.ts'

/** What is said of one thing: whether it works, in a sentence, and how to mend it: a command, or a line to paste. */
export type Finding = ProbeFinding

export const pass = (subject: string, text: string): Finding => ({ subject, verdict: 'pass', text })

export const warn = (subject: string, text: string, hint?: string): Finding => ({
  subject,
  verdict: 'warn',
  text,
  ...(hint !== undefined && { hint }),
})

export const fail = (subject: string, text: string, hint?: string): Finding => ({
  ...warn(subject, text, hint),
  verdict: 'fail',
})

/** What is fine of several things in one line; what is not has lines of its own. @param subject of the whole */
export function together(subject: string, findings: readonly Finding[]): Finding[] {
  const fine = findings.filter(({ verdict }) => verdict === 'pass').map(({ text }) => text)
  const others = findings.filter(({ verdict }) => verdict !== 'pass')
  return fine.length === 0 ? others : [pass(subject, fine.join('; ')), ...others]
}

/** What fails in an optional repository stops nothing, and so is a warning. */
export function softened(findings: readonly Finding[], { required }: { required: boolean }): Finding[] {
  return findings.map((finding) =>
    finding.verdict === 'fail' && !required ? { ...finding, verdict: 'warn' } : finding,
  )
}

/** What could not be asked is not known, which is a warning: nobody can say that it works. */
export async function lookInto(
  subject: string,
  signal: AbortSignal,
  look: () => Promise<Finding[]>,
): Promise<Finding[]> {
  try {
    return await look()
  } catch (error) {
    signal.throwIfAborted()
    return [warn(subject, `could not be looked at: ${reasonOf(error)}`)]
  }
}
