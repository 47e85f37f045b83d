import { takeBackup } from '../backup/take-backup.ts'
import type { BackupRecord } from '../catalog/backup-record.ts'
import { formatBytes, formatDuration } from '../cli/units.ts'
import { EXIT_CODES } from '../errors.ts'
import { methodOf, requestOf } from './backup-method.ts'
import type { Run } from './context.ts'
import { blocksText } from './damage-text.ts'

export const run: Run = async ({ options }, context) => {
  const { name, config } = context.cluster()
  const request = requestOf(name, config, options, context.version)
  const repository = context.repositories()[0]!
  await context.makeIfNew(repository)
  const begun = context.now()
  await using resources = new AsyncDisposableStack()
  const method = await methodOf(config, options, context, resources)
  const record = await takeBackup(request, method, {
    repository,
    events: context.events,
    signal: context.signal,
    now: context.now,
  })
  return {
    text: resultText(record, context.now().getTime() - begun.getTime()),
    json: record,
    exitCode: record.damagedPages ? EXIT_CODES.pages.code : 0,
  }
}

function resultText(record: BackupRecord, tookMs: number): string {
  const lines = [
    `Backup ${record.id} is complete: ${formatBytes(record.dataBytes)} in ${record.files} files, stored as ${formatBytes(record.storedBytes)}, in ${formatDuration(tookMs)}.`,
  ]
  if (record.resumedBytes > 0)
    lines.push(
      `Of this, ${formatBytes(record.resumedBytes)} had been stored by the run that was interrupted.`,
    )
  lines.push(
    `Restorable from ${record.stop.time} on (LSN ${record.stop.lsn}, timeline ${record.timeline}).`,
    ...damageText(record),
  )
  return lines.join('\n')
}

/** Damaged pages, file by file: the first ones, as `show` has them all. */
function damageText({ damaged, damagedPages }: BackupRecord): string[] {
  if (!damagedPages) return []
  const shown = damaged
    .slice(0, 10)
    .map(({ path, pages, blocks }) => `  ${path}: ${blocksText(blocks, pages)}`)
  const more = damaged.length > 10 ? [`  and ${damaged.length - 10} more files: pgrecall show`] : []
  return [`${damagedPages} pages do not fit their checksums:`, ...shown, ...more]
}
