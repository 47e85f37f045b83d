import { parseCodec } from '../archive/codec.ts'
import { coldMethod } from '../backup/cold.ts'
import { filesMethod } from '../backup/files.ts'
import type { BackupMethod, BackupRequest } from '../backup/method.ts'
import { snapshotMethod } from '../backup/snapshot.ts'
import { streamMethod } from '../backup/stream.ts'
import { takeBackup } from '../backup/take-backup.ts'
import type { BackupRecord } from '../catalog/backup-record.ts'
import { formatBytes, formatDuration } from '../cli/units.ts'
import { parseByteSize } from '../config/byte-size.ts'
import type { ClusterConfig } from '../config/schema.ts'
import { EXIT_CODES, PgrecallError } from '../errors.ts'
import type { CommandContext, Run } from './context.ts'
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

function requestOf(
  cluster: string,
  { backup }: ClusterConfig,
  options: Record<string, unknown>,
  version: string,
): BackupRequest {
  const method = methodName(backup, options)
  const codec = parseCodec((options.compression as string | undefined) ?? backup.compression)
  if (typeof codec === 'string') throw new PgrecallError('usage', `--compression: ${codec}`)
  return {
    cluster,
    label: options.label as string,
    codec,
    jobs: (options.jobs as number | undefined) ?? backup.jobs,
    checkpoint: (options.checkpoint as 'fast' | 'spread' | undefined) ?? backup.checkpoint,
    // What a server that is shut down needs to start is WAL that no archive has.
    standalone: options.standalone === true || method === 'cold',
    maxRate: rateOf(options.maxRate as string | undefined) ?? backup.maxRate,
    shardBytes: backup.shardSize,
    checksumFailures: (options.checksumFailures as 'warn' | 'fail' | undefined) ?? backup.checksumFailures,
    resume: options.resume !== false,
    archiveTimeoutMs: backup.archiveTimeout * 1000,
    tool: { name: 'pgrecall', version },
  }
}

function methodName({ method }: ClusterConfig['backup'], options: Record<string, unknown>) {
  return (options.method as typeof method | undefined) ?? method
}

function rateOf(text: string | undefined): number | undefined {
  const bytes = text === undefined ? undefined : parseByteSize(text)
  if (text === undefined || (bytes !== undefined && bytes >= 32 * 1024)) return bytes
  throw new PgrecallError(
    'usage',
    `--max-rate: "${text}" is no rate; give bytes a second, such as 64MB, at least 32kB`,
  )
}

async function methodOf(
  config: ClusterConfig,
  options: Record<string, unknown>,
  context: CommandContext,
  resources: AsyncDisposableStack,
): Promise<BackupMethod> {
  const name = methodName(config.backup, options)
  if (name === 'cold') {
    if (config.dataDirectory !== undefined) return coldMethod(config.dataDirectory)
    throw new PgrecallError('config', 'it is not said where the cluster that is shut down lies', {
      hint: `set "dataDirectory" of the cluster in the configuration`,
    })
  }
  if (name === 'stream') return streamMethod(context.connect, await context.connection(), context.env)
  const server = resources.use(await context.connect())
  if (name === 'files') return filesMethod(server, config.dataDirectory)
  return snapshotMethod(server, context.connect, await context.snapshots(), config.dataDirectory)
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
