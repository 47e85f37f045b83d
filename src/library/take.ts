import type { BackupOutcome } from '../backup/outcome.ts'
import { takeBackup } from '../backup/take-backup.ts'
import type { BackupRecord } from '../catalog/backup-record.ts'
import type { LogicalRecord } from '../catalog/logical-record.ts'
import { requestOf as logicalRequestOf } from '../commands/backup-logical.ts'
import { methodOf, requestOf } from '../commands/backup-method.ts'
import type { CommandContext } from '../commands/context.ts'
import { takeLogicalBackup } from '../logical/take-logical.ts'
import { Server } from '../postgres/server.ts'
import type { BackupOptions, LogicalBackupOptions } from './api.ts'

/** `takeBackup` of the library. */
export async function take(
  context: CommandContext,
  options: BackupOptions,
): Promise<BackupOutcome<BackupRecord>> {
  const { name, config } = context.cluster()
  const given = { label: '', ...options }
  await using resources = new AsyncDisposableStack()
  const method = await methodOf(config, given, context, resources)
  return await takeBackup(requestOf(name, config, given, context.version), method, {
    ...context,
    repositories: context.repositories(),
  })
}

/** `takeLogicalBackup` of the library. */
export async function takeLogical(
  context: CommandContext,
  { extra = [], ...options }: LogicalBackupOptions,
): Promise<BackupOutcome<LogicalRecord>> {
  const { name, config } = context.cluster()
  const given = { label: '', database: [], excludeDatabase: [], ...options }
  const source = { connection: await context.connection(), connect: Server.connect, env: context.env }
  return takeLogicalBackup(logicalRequestOf(name, config, given, extra, context), source, {
    ...context,
    repositories: context.repositories(),
  })
}
