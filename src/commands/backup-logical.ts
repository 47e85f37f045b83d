import { resolve } from 'node:path'
import { parseCodec } from '../archive/codec.ts'
import type { BackupOutcome } from '../backup/outcome.ts'
import type { LogicalRecord } from '../catalog/logical-record.ts'
import { selectionText } from '../catalog/selection-text.ts'
import { formatBytes, formatCount, formatDuration } from '../cli/units.ts'
import type { ClusterConfig } from '../config/schema.ts'
import { PgrecallError } from '../errors.ts'
import type { LogicalRequest } from '../logical/logical-request.ts'
import { takeLogicalBackup } from '../logical/take-logical.ts'
import { refuseOwnOptions } from '../postgres/dump-options.ts'
import { Server } from '../postgres/server.ts'
import type { CommandContext, Run } from './context.ts'
import { refuseOptionsOfOther, selectionOf } from './logical-options.ts'
import { failureCodeOf, repositoryFacts, repositoryLines } from './outcome-text.ts'

/** `backup --method logical`. */
export const run: Run = async ({ args, options }, context) => {
  refuseOptionsOfOther('logical', options, args)
  const { name, config } = context.cluster()
  const request = requestOf(name, config, options, args, context)
  const begun = context.now()
  const source = {
    connection: await context.connection(),
    connect: (connection: Parameters<typeof Server.connect>[0]) => Server.connect(connection),
    env: context.env,
  }
  const outcome = await takeLogicalBackup(request, source, {
    repositories: context.repositories(),
    makeIfNew: context.makeIfNew,
    events: context.events,
    signal: context.signal,
    now: context.now,
  })
  const { record } = outcome.records[0]!
  return {
    text: resultText(outcome, context.now().getTime() - begun.getTime()),
    json: { ...record, repositories: repositoryFacts(outcome) },
    exitCode: failureCodeOf(outcome),
  }
}

export function requestOf(
  cluster: string,
  { backup }: ClusterConfig,
  options: Record<string, unknown>,
  extra: readonly string[],
  { version, cwd }: Pick<CommandContext, 'version' | 'cwd'>,
): LogicalRequest {
  const codec = parseCodec((options.compression as string | undefined) ?? backup.compression)
  if (typeof codec === 'string') throw new PgrecallError('usage', `--compression: ${codec}`)
  const lockWait = options.lockWait as number | undefined
  const whole = options.whole === true
  // Before anything is begun, although the program would not be started with them either.
  refuseOwnOptions(whole ? 'pg_dumpall' : 'pg_dump', [...extra])
  const selection = selectionOf(options, extra)
  const databases = {
    include: options.database as string[],
    exclude: options.excludeDatabase as string[],
  }
  const { extra: _extra, ...chosen } = selection
  if (whole && (Object.keys(chosen).length > 0 || databases.include.length + databases.exclude.length > 0))
    throw new PgrecallError('usage', '--whole dumps all of the cluster, so nothing can be chosen of it', {
      hint: 'leave --whole out, and each database gets an archive of its own',
    })
  if (whole && options.globals === false)
    throw new PgrecallError(
      'usage',
      '--whole makes one script, which always has roles and tablespaces, so there is no --no-globals',
      { hint: 'leave one of both out' },
    )
  const staging = options.staging as string | undefined
  const fingerprint = options.fingerprint === true
  if (whole && (staging !== undefined || fingerprint))
    throw new PgrecallError(
      'usage',
      `--whole makes one script, which streams and shows no single moment, so there is no --${fingerprint ? 'fingerprint' : 'staging'}`,
      { hint: 'leave one of both out' },
    )
  return {
    cluster,
    label: options.label as string,
    codec,
    jobs: (options.jobs as number | undefined) ?? backup.jobs,
    staging: staging === undefined ? undefined : resolve(cwd, staging),
    fingerprint,
    databases,
    selection,
    whole,
    globals: options.globals !== false,
    lockWaitMs: lockWait === undefined ? undefined : lockWait * 1000,
    tool: { name: 'pgrecall', version },
  }
}

function resultText(outcome: BackupOutcome<LogicalRecord>, tookMs: number): string {
  const { record } = outcome.records[0]!
  const what =
    record.form === 'script'
      ? 'all of the cluster in one script'
      : `${formatCount(record.databases.length, 'database')}${record.hasGlobals ? ' with roles and tablespaces' : ''}`
  const lines = [
    `Backup ${record.id} is complete: ${what}, stored as ${formatBytes(record.storedBytes)}, in ${formatDuration(tookMs)}.`,
  ]
  if (record.selection)
    lines.push(
      `It has only what was chosen (${selectionText(record.selection)}): what that depends on may be missing.`,
    )
  return [...lines, ...repositoryLines(outcome)].join('\n')
}
