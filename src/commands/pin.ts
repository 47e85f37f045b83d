import { type KeptPin, keepBackup } from '../catalog/kept-pin.ts'
import { isPhysicalId } from '../catalog/layout.ts'
import { lockHolder } from '../catalog/lock.ts'
import type { Repository } from '../catalog/repository.ts'
import { PgrecallError } from '../errors.ts'
import type { CommandContext, Run } from './context.ts'
import { failureFacts, failureText, inEachRepository } from './each-repository.ts'
import { pinFacts, pinText } from './pin-text.ts'
import { pinEnd } from './pin-until.ts'
import { meantBackup, unknownBackup } from './pinned-backup.ts'

const LONGEST_REASON = 500

export const run: Run = async ({ args, options }, context) => {
  const { name, config } = context.cluster()
  const zone = config.timeZone ?? Intl.DateTimeFormat().resolvedOptions().timeZone
  const reason = reasonIn(options.reason as string)
  const until = options.until === undefined ? undefined : pinEnd(options.until as string, zone, context.now())
  const pin: KeptPin = { backup: await meantBackup(args[0]!, name, context), until, reason }
  const { answers, exitCode } = await inEachRepository(context, (repository) =>
    keep(pin, repository, name, context),
  )
  const isPinned = answers.some((answer) => 'result' in answer && answer.result === 'kept')
  const failed = answers.find((answer) => 'error' in answer)
  if (!isPinned) throw failed ? failed.error : await unknownBackup(pin.backup, name, context)
  // Who has no rule for WAL keeps all of it from there on, and that grows.
  const costs = isPhysicalId(pin.backup) && config.retention.wal === undefined
  return {
    text: [
      ...answers.map((answer) => `Repository "${answer.repository}": ${answerText(answer, pin)}`),
      ...(costs ? ['All WAL from there on stays with it; the rule "wal" of the retention bounds that.'] : []),
    ].join('\n'),
    json: answers.map((answer) =>
      'error' in answer
        ? failureFacts(answer.repository, answer.error)
        : { repository: answer.repository, isPinned: answer.result === 'kept', ...pinFacts(pin) },
    ),
    exitCode,
  }
}

function answerText(answer: { result: 'kept' | 'absent' } | { error: unknown }, pin: KeptPin): string {
  if ('error' in answer) return failureText(answer.error)
  return answer.result === 'kept'
    ? `backup ${pin.backup} is pinned ${pinText(pin)}`
    : `there is no backup ${pin.backup}`
}

async function keep(
  pin: KeptPin,
  { name, storage }: Repository,
  cluster: string,
  { events, now }: CommandContext,
): Promise<'kept' | 'absent'> {
  const kept = await keepBackup(storage, cluster, pin)
  const holder = kept === 'kept' ? await lockHolder(storage, cluster, now()) : undefined
  if (holder?.purpose === 'retention') {
    const text = `retention is removing backups in "${name}" just now: when it has ended, see with "pgrecall show ${pin.backup}" whether this one is still there`
    events.emit('warning', { text })
  }
  return kept
}

function reasonIn(text: string): string {
  const reason = text.replace(/\s+/g, ' ').trim()
  if (reason !== '' && reason.length <= LONGEST_REASON) return reason
  throw new PgrecallError('usage', `--reason must have 1 to ${LONGEST_REASON} characters`, {
    hint: 'say for whom or for what the backup stays: who reads it in a year has nothing else',
  })
}
