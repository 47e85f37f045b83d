import type { Finding } from '../checks/finding.ts'
import { look } from '../checks/look-over.ts'
import { seeSegmentArrive, standbySegment } from '../checks/segment.ts'
import { paint } from '../cli/terminal.ts'
import { wrapped } from '../cli/wrap.ts'
import { EXIT_CODES } from '../errors.ts'
import { checkQuestion } from './check-question.ts'
import type { CommandContext, Run } from './context.ts'

/** Looks for what would make tonight's backup or tomorrow's restore fail, and says of each thing whether it is well. */
export const run: Run = async ({ options }, context) => {
  const isReadOnly = options.readOnly === true
  const question = { ...checkQuestion(context), ...(isReadOnly ? {} : { makeIfNew: context.makeIfNew }) }
  const { findings, usable, mayArrive, inRecovery } = await look(question)
  if (inRecovery) findings.push(standbySegment())
  else if (mayArrive && usable.length > 0 && !isReadOnly)
    findings.push(...(await seeSegmentArrive(usable, Number(options.timeout), question, context.events)))
  return {
    text: findings.map((finding) => findingText(finding, context.view)).join('\n'),
    json: findings,
    exitCode: findings.some(({ verdict }) => verdict === 'fail') ? EXIT_CODES.problems.code : 0,
  }
}

/** The longest verdict, and a gap. */
const INDENT = 6

export function findingText({ subject, verdict, text, hint }: Finding, view: CommandContext['view']): string {
  const style = { pass: 'green', warn: 'yellow', fail: 'red' } as const
  const mark = paint(verdict.padEnd(4), style[verdict], view.color)
  const lines = [`${subject}: ${text}`, ...(hint ? hint.split('\n') : [])]
  return `${mark}  ${lines.flatMap((line) => wrapped(line, INDENT, view.width)).join(`\n${' '.repeat(INDENT)}`)}`
}
