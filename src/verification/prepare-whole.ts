import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Events } from '../events.ts'
import type { LogicalSource } from '../logical/logical-run.ts'
import { type StoredBackup, startOf } from '../logical/restore-object.ts'
import { type PreparedRestore, prepareLogicalRestore } from '../logical/restore-prepare.ts'

/** Why a backup cannot be loaded into an empty server at all; undefined where it can. */
export async function hindranceOf(backup: StoredBackup, signal: AbortSignal): Promise<string | undefined> {
  const { record } = backup
  if (record.selection?.only === 'data') return 'it has rows only, and no tables for them'
  const script = record.objects.find(({ kind }) => kind === 'script')
  if (!script) return undefined
  // Roles and tablespaces stand in front of the first database.
  let head = ''
  for await (const piece of startOf(backup, script, signal)) {
    head += piece.toString('latin1')
    if (/^\\connect /m.test(head)) break
  }
  return /^CREATE TABLESPACE /m.test(head)
    ? 'it is one script, which makes tablespaces in folders of the server that was dumped'
    : undefined
}

/**
 * A restore of all of a backup, from this very repository.
 * @param folder where tablespaces lie, and what is staged
 * @param source an empty server
 */
export async function prepareWhole(
  { repository, record }: StoredBackup,
  folder: string,
  source: LogicalSource,
  { events, signal }: { events: Events; signal: AbortSignal },
): Promise<PreparedRestore> {
  const isScript = record.form === 'script'
  const request = {
    cluster: record.cluster,
    id: record.id,
    databases: { include: [], exclude: [] },
    into: undefined,
    choice: { tables: [], schemas: [], excludeSchemas: [], only: undefined },
    create: false,
    clean: false,
    force: false,
    globals: true,
    // Without roles all belongs to the superuser.
    noOwner: !record.hasGlobals,
    noPrivileges: !record.hasGlobals,
    roles: new Map(),
    role: undefined,
    tablespaces: new Map<string, string>(),
    jobs: 1,
    staging: isScript ? undefined : folder,
    analyze: false,
    compare: record.objects.some(({ kind }) => kind === 'fingerprint'),
  }
  await using server = await source.connect(source.connection)
  const context = { repositories: [repository], events: quiet(events), signal }
  const found = await prepareLogicalRestore(request, server, source, context)
  const spaces = found.plan.globals?.madeTablespaces ?? []
  if (spaces.length === 0) return found
  for (const [index, { name }] of spaces.entries()) {
    const path = join(folder, `tablespace-${index}`)
    await mkdir(path, { mode: 0o700 })
    request.tablespaces.set(name, path)
  }
  return await prepareLogicalRestore(request, server, source, context)
}

/** What a restore warns of is told by the proof, and before that to the log only. @param hear is told it too */
export function quiet(events: Events, hear: (text: string) => void = () => {}): Events {
  return new Events()
    .on('detail', (event) => events.emit('detail', event))
    .on('warning', ({ text }) => {
      hear(text)
      events.emit('detail', { text })
    })
}
