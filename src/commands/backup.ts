import type { BackupOutcome } from '../backup/outcome.ts'
import { takeBackup } from '../backup/take-backup.ts'
import type { BackupRecord } from '../catalog/backup-record.ts'
import { formatBytes, formatCount, formatDuration } from '../cli/units.ts'
import { wrapped } from '../cli/wrap.ts'
import { EXIT_CODES } from '../errors.ts'
import { methodOf, requestOf } from './backup-method.ts'
import type { Run } from './context.ts'
import { blocksText } from './damage-text.ts'
import { refuseOptionsOfOther } from './logical-options.ts'
import { failureCodeOf, repositoryFacts, repositoryLines } from './outcome-text.ts'

export const run: Run = async (invocation, context) => {
  const { args, options } = invocation
  if (options.method === 'logical') return (await import('./backup-logical.ts')).run(invocation, context)
  refuseOptionsOfOther('physical', options, args)
  const { name, config } = context.cluster()
  const request = requestOf(name, config, options, context.version)
  const repositories = context.repositories()
  const begun = context.now()
  await using resources = new AsyncDisposableStack()
  const method = await methodOf(config, options, context, resources)
  const outcome = await takeBackup(request, method, {
    repositories,
    makeIfNew: context.makeIfNew,
    events: context.events,
    signal: context.signal,
    now: context.now,
  })
  const { record } = outcome.records[0]!
  return {
    text: resultText(outcome, context.now().getTime() - begun.getTime())
      .flatMap((line) => wrapped(line, 0, context.view.width))
      .join('\n'),
    json: { ...record, repositories: repositoryFacts(outcome) },
    exitCode: exitCodeFor(outcome, record),
  }
}

function exitCodeFor(outcome: BackupOutcome<BackupRecord>, { damagedPages }: BackupRecord): number {
  return failureCodeOf(outcome) || (damagedPages ? EXIT_CODES.pages.code : 0)
}

function resultText(outcome: BackupOutcome<BackupRecord>, tookMs: number): string[] {
  const { record } = outcome.records[0]!
  const lines = [
    `Backup ${record.id} is complete: ${formatBytes(record.dataBytes)} in ${formatCount(record.files, 'file')}, stored as ${formatBytes(record.storedBytes)}, in ${formatDuration(tookMs)}.`,
    ...incrementText(record),
  ]
  if (record.resumedBytes > 0)
    lines.push(
      `Of this, ${formatBytes(record.resumedBytes)} had been stored by the run that was interrupted.`,
    )
  lines.push(
    ...repositoryLines(outcome),
    `Restorable from ${record.stop.time} on (LSN ${record.stop.lsn}, timeline ${record.timeline}).`,
    ...damageText(record),
  )
  return lines
}

function incrementText({ parent, increment, clusterBytes = 0 }: BackupRecord): string[] {
  if (!parent || !increment) return []
  const { changedBlocks, readBytes } = increment
  const read =
    readBytes === undefined ? '' : `; ${formatBytes(readBytes)} of ${formatBytes(clusterBytes)} were read`
  return [
    `It has what changed since ${parent.id}: ${formatCount(changedBlocks, 'block')}, and small files${read}.`,
  ]
}

/** Damaged pages, file by file: the first ones, as `show` has them all. */
function damageText({ damaged, damagedPages }: BackupRecord): string[] {
  if (!damagedPages) return []
  const shown = damaged
    .slice(0, 10)
    .map(({ path, pages, blocks }) => `  ${path}: ${blocksText(blocks, pages)}`)
  const more =
    damaged.length > 10 ? [`  and ${formatCount(damaged.length - 10, 'more file')}: pgrecall show`] : []
  const pages = formatCount(damagedPages, 'page')
  const fit = damagedPages === 1 ? 'does not fit its checksum' : 'do not fit their checksums'
  return [`${pages} ${fit}:`, ...shown, ...more]
}
