import { tmpdir } from 'node:os'
import { resolve } from 'node:path'
import { EXIT_CODES, PgrecallError } from '../errors.ts'
import { type VerifyRequest, verifyRepository } from '../verification/verify-repository.ts'
import type { Run } from './context.ts'
import { failureFacts, failureText, inEachRepository } from './each-repository.ts'
import { verifiedText } from './verify-text.ts'

/** Reads what is stored and compares it with what was recorded. */
export const run: Run = async ({ args, options }, context) => {
  const { name: cluster } = context.cluster()
  const request = requestOf(cluster, args, options, context.cwd)
  const { answers, exitCode } = await inEachRepository(context, (repository) => {
    if (context.repositories().length > 1)
      context.events.emit('step', { text: `Verifying what is in repository "${repository.name}"` })
    const others = context.repositoriesOf(cluster).filter(({ name }) => name !== repository.name)
    return verifyRepository(repository, { ...request, others }, context)
  })
  const found = answers.flatMap((answer) => ('result' in answer ? [answer.result] : []))
  const isDamaged = found.some(
    ({ damaged, backups }) =>
      damaged.some(({ mend }) => mend.outcome !== 'healed') || (!request.repair && hasFaults(backups)),
  )
  const isUnproven = found.some(({ backups }) =>
    backups.some(({ restore }) => restore?.verdict === 'unproven'),
  )
  return {
    text: answers
      .map((answer) => {
        const text =
          'error' in answer
            ? failureText(answer.error)
            : verifiedText(answer.result, context.view, request.repair)
        return `Cluster "${cluster}" in repository "${answer.repository}"\n${text}`
      })
      .join('\n\n'),
    json: answers.map((answer) =>
      'error' in answer
        ? failureFacts(answer.repository, answer.error)
        : { repository: answer.repository, ...answer.result },
    ),
    exitCode: isDamaged ? EXIT_CODES.problems.code : exitCode || (isUnproven ? EXIT_CODES.refused.code : 0),
  }
}

const hasFaults = (backups: readonly { faults: readonly unknown[] }[]) =>
  backups.some(({ faults }) => faults.length > 0)

/** @throws PgrecallError `usage` */
function requestOf(
  cluster: string,
  ids: readonly string[],
  options: Record<string, unknown>,
  cwd: string,
): VerifyRequest & { repair: boolean } {
  const fraction = options.fraction as number | undefined
  if (fraction !== undefined && ids.length > 0)
    throw new PgrecallError('usage', '--fraction is a part of everything that is stored', {
      hint: 'leave the ids out, or --fraction',
    })
  return {
    ...{ cluster, ids, fraction, jobs: options.jobs as number, scratch: scratchOf(options, cwd) },
    ...{ decode: options.decode === true, repair: options.repair === true },
  }
}

/** The folder of the scratch server; undefined where nothing is loaded. @throws PgrecallError `usage` */
function scratchOf({ restore, scratch }: Record<string, unknown>, cwd: string): string | undefined {
  if (restore) return resolve(cwd, (scratch as string | undefined) ?? tmpdir())
  if (scratch === undefined) return undefined
  throw new PgrecallError('usage', '--scratch is where --restore loads a backup', { hint: 'add --restore' })
}
