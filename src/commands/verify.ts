import { tmpdir } from 'node:os'
import { resolve } from 'node:path'
import { renderTable } from '../cli/table.ts'
import { formatBytes, formatCount } from '../cli/units.ts'
import { EXIT_CODES, PgrecallError } from '../errors.ts'
import { type VerifiedBackup, verifyRepository } from '../verification/verify-repository.ts'
import type { CommandContext, Run } from './context.ts'
import { failureFacts, failureText, inEachRepository } from './each-repository.ts'
import { restoreProofText } from './verify-restore-text.ts'

const FAULTS_SHOWN = 20

/** Reads what is stored and compares it with what was recorded. */
export const run: Run = async ({ args, options }, context) => {
  const { name: cluster } = context.cluster()
  const scratch = scratchOf(options, context.cwd)
  const request = { cluster, ids: args, jobs: options.jobs as number, scratch }
  const { answers, exitCode } = await inEachRepository(context, (repository) =>
    verifyRepository(repository, request, context),
  )
  const backups = answers.flatMap((answer) => ('result' in answer ? answer.result : []))
  const isDamaged = backups.some(({ faults }) => faults.length > 0)
  const isUnproven = backups.some(({ restore }) => restore?.verdict === 'unproven')
  return {
    text: answers
      .map((answer) => {
        const text = 'error' in answer ? failureText(answer.error) : lookText(answer.result, context.view)
        return `Cluster "${cluster}" in repository "${answer.repository}"\n${text}`
      })
      .join('\n\n'),
    json: answers.map((answer) =>
      'error' in answer
        ? failureFacts(answer.repository, answer.error)
        : { repository: answer.repository, backups: answer.result },
    ),
    exitCode: isDamaged ? EXIT_CODES.damaged.code : exitCode || (isUnproven ? EXIT_CODES.refused.code : 0),
  }
}

/** The folder of the scratch server; undefined where nothing is loaded. @throws PgrecallError `usage` */
function scratchOf({ restore, scratch }: Record<string, unknown>, cwd: string): string | undefined {
  if (restore) return resolve(cwd, (scratch as string | undefined) ?? tmpdir())
  if (scratch === undefined) return undefined
  throw new PgrecallError('usage', '--scratch is where --restore loads a backup', { hint: 'add --restore' })
}

function lookText(backups: readonly VerifiedBackup[], view: CommandContext['view']): string {
  if (backups.length === 0) return 'No backups yet; "pgrecall backup" takes one.'
  const table = renderTable(
    [
      { title: 'Backup', whole: true },
      { title: 'Objects', align: 'right' },
      { title: 'Read', align: 'right' },
      { title: 'Verdict', style: (cell) => (cell === 'sound' ? 'green' : 'red') },
    ],
    backups.map(({ id, objects, bytes, faults }) => [
      id,
      String(objects),
      formatBytes(bytes),
      faults.length === 0 ? 'sound' : formatCount(faults.length, 'fault'),
    ]),
    view,
  )
  const faults = backups.flatMap((backup) => backup.faults)
  const shown = faults.slice(0, FAULTS_SHOWN).map(({ key, reason }) => `${key}: ${reason}`)
  const more = faults.length > FAULTS_SHOWN ? [`and ${faults.length - FAULTS_SHOWN} more: see --json`] : []
  const sizeOnly = backups.reduce((sum, backup) => sum + backup.sizeOnly, 0)
  const without =
    sizeOnly > 0
      ? [
          `Of ${formatCount(sizeOnly, 'WAL file')} only the size was looked at: this host has no key that reads them.`,
        ]
      : []
  const unlisted = backups.flatMap(({ id, unlisted: reason }) =>
    reason === undefined ? [] : [`The archives of ${id} were not opened: ${reason}.`],
  )
  const restored = backups.flatMap(({ id, restore }) =>
    restore ? [`\n${restoreProofText(id, restore, view)}`] : [],
  )
  return [table, ...shown, ...more, ...without, ...unlisted, ...restored].join('\n')
}
