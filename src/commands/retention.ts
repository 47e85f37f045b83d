import { applyRetention, previewRetention } from '../retention/apply.ts'
import type { Run } from './context.ts'
import { failureFacts, failureText, inEachRepository } from './each-repository.ts'
import { rulesOf } from './retention-rules.ts'
import { planFacts, planText, summaryText } from './retention-text.ts'

export const run: Run = async ({ options }, context) => {
  const { name, config } = context.cluster()
  const rules = rulesOf(name, config, options)
  const { answers, exitCode } = await inEachRepository(context, async (repository) => {
    const surroundings = { repository, events: context.events, signal: context.signal, now: context.now }
    if (options.dryRun) {
      const plan = await previewRetention(name, rules, surroundings)
      return { text: planText(plan, context, true), facts: { dryRun: true, ...planFacts(plan) } }
    }
    const { plan, ...done } = await applyRetention(name, rules, surroundings)
    const text = `${planText(plan, context, false)}\n${summaryText(done)}`
    return { text, facts: { dryRun: false, ...planFacts(plan), ...done } }
  })
  return {
    text: answers
      .map((answer) => {
        const text = 'error' in answer ? failureText(answer.error) : answer.result.text
        return `Repository "${answer.repository}":\n${text}`
      })
      .join('\n\n'),
    json: answers.map((answer) =>
      'error' in answer
        ? failureFacts(answer.repository, answer.error)
        : { repository: answer.repository, ...answer.result.facts },
    ),
    exitCode,
  }
}
