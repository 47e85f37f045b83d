import { parseCodec } from '../archive/codec.ts'
import { coldMethod } from '../backup/cold.ts'
import { filesMethod } from '../backup/files.ts'
import type { BackupMethod, BackupRequest } from '../backup/method.ts'
import { snapshotMethod } from '../backup/snapshot.ts'
import { streamMethod } from '../backup/stream.ts'
import { parseByteSize } from '../config/byte-size.ts'
import type { ClusterConfig } from '../config/schema.ts'
import { PgrecallError } from '../errors.ts'
import type { CommandContext } from './context.ts'

/** What takes a backup of a cluster, by its configuration and the options. @param resources closes what it opens */
export async function methodOf(
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

/** What is asked of a backup. @throws PgrecallError `usage` for an option that cannot be read */
export function requestOf(
  cluster: string,
  { backup, wal }: ClusterConfig,
  options: Record<string, unknown>,
  version: string,
): BackupRequest {
  const method = methodName(backup, options)
  const codec = parseCodec((options.compression as string | undefined) ?? backup.compression)
  if (typeof codec === 'string') throw new PgrecallError('usage', `--compression: ${codec}`)
  return {
    cluster,
    type: (options.type as BackupRequest['type'] | undefined) ?? backup.type,
    maxChain: backup.maxChain,
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
    receiveSlot: wal.receive.slot,
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
