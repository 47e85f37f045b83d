import { parseCodec } from '../archive/codec.ts'
import { takeBackup } from '../backup/take-backup.ts'
import { formatBytes, formatDuration } from '../cli/units.ts'
import { PgrecallError } from '../errors.ts'
import type { Run } from './context.ts'

export const run: Run = async ({ options }, context) => {
  const { name, config } = context.cluster()
  const codec = parseCodec((options.compression as string | undefined) ?? config.backup.compression)
  if (typeof codec === 'string') throw new PgrecallError('usage', `--compression: ${codec}`)
  const repository = context.repositories()[0]!
  await context.makeIfNew(repository)
  const begun = context.now()
  await using server = await context.connect()
  const record = await takeBackup(
    {
      cluster: name,
      label: options.label as string,
      codec,
      jobs: (options.jobs as number | undefined) ?? config.backup.jobs,
      checkpoint: (options.checkpoint as 'fast' | 'spread' | undefined) ?? config.backup.checkpoint,
      standalone: options.standalone === true,
      archiveTimeoutMs: config.backup.archiveTimeout * 1000,
      expectedDataDirectory: config.dataDirectory,
      tool: { name: 'pgrecall', version: context.version },
    },
    { server, repository, events: context.events, signal: context.signal, now: context.now },
  )
  const took = formatDuration(context.now().getTime() - begun.getTime())
  const sizes = `${formatBytes(record.dataBytes)} in ${record.files} files, stored as ${formatBytes(record.storedBytes)}`
  return {
    text: `Backup ${record.id} is complete: ${sizes}, in ${took}.\nRestorable from ${record.stop.time} on (LSN ${record.stop.lsn}, timeline ${record.timeline}).`,
    json: record,
  }
}
