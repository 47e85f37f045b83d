import { renderTable } from '../cli/table.ts'
import { formatBytes, formatCount } from '../cli/units.ts'
import { EXIT_CODES } from '../errors.ts'
import { type VerifiedBackup, verifyRepository } from '../verification/verify-repository.ts'
import type { CommandContext, Run } from './context.ts'

const FAULTS_SHOWN = 20

/** Reads what is stored and compares it with what was recorded. */
export const run: Run = async ({ args, options }, context) => {
  const { name: cluster } = context.cluster()
  const request = { cluster, ids: args, jobs: options.jobs as number }
  const looks: { repository: string; backups: VerifiedBackup[] }[] = []
  for (const repository of context.repositories()) {
    looks.push({ repository: repository.name, backups: await verifyRepository(repository, request, context) })
  }
  const isDamaged = looks.some(({ backups }) => backups.some(({ faults }) => faults.length > 0))
  return {
    text: looks.map((look) => lookText(cluster, look, context.view)).join('\n\n'),
    json: looks,
    exitCode: isDamaged ? EXIT_CODES.damaged.code : 0,
  }
}

function lookText(
  cluster: string,
  { repository, backups }: { repository: string; backups: VerifiedBackup[] },
  view: CommandContext['view'],
): string {
  const title = `Cluster "${cluster}" in repository "${repository}"`
  if (backups.length === 0) return `${title}\nNo backups yet; "pgrecall backup" takes one.`
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
  return [title, table, ...shown, ...more, ...without].join('\n')
}
