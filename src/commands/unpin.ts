import { type KeptPin, releaseBackup } from '../catalog/kept-pin.ts'
import { backupRecordKey } from '../catalog/layout.ts'
import type { Run } from './context.ts'
import { failureFacts, failureText, inEachRepository } from './each-repository.ts'
import { pinFacts, pinText } from './pin-text.ts'
import { meantBackup, unknownBackup } from './pinned-backup.ts'

export const run: Run = async ({ args }, context) => {
  const { name } = context.cluster()
  const id = await meantBackup(args[0]!, name, context)
  const { answers, exitCode } = await inEachRepository(context, async ({ storage }) => ({
    pins: await releaseBackup(storage, name, id),
    isThere: (await storage.stat(backupRecordKey(name, id))) !== undefined,
  }))
  const isKnown = answers.some(
    (answer) => 'error' in answer || answer.result.isThere || answer.result.pins.length > 0,
  )
  if (!isKnown) throw await unknownBackup(id, name, context)
  return {
    text: answers
      .map((answer) => {
        const text = 'error' in answer ? failureText(answer.error) : releasedText(id, answer.result.pins)
        return `Repository "${answer.repository}": ${text}`
      })
      .join('\n'),
    json: answers.map((answer) =>
      'error' in answer
        ? failureFacts(answer.repository, answer.error)
        : { repository: answer.repository, backup: id, released: answer.result.pins.map(pinFacts) },
    ),
    exitCode,
  }
}

function releasedText(id: string, pins: readonly KeptPin[]): string {
  if (pins.length === 0) return `backup ${id} was not pinned`
  return `backup ${id} is not pinned any more; it was, ${pins.map(pinText).join('; ')}`
}
