import { resolve } from 'node:path'
import { parseCodec } from '../archive/codec.ts'
import { formatBytes } from '../cli/units.ts'
import { exitCodeOf, PgrecallError, reasonOf } from '../errors.ts'
import { archiveFolder, type FolderResult } from '../wal/archive-folder.ts'
import { archiveWaiting } from '../wal/archive-waiting.ts'
import { Shortfalls } from '../wal/every-repository.ts'
import { type PushRequest, type PushResult, pushWalFile } from '../wal/push.ts'
import { nameInPgWal } from '../wal/waiting.ts'
import type { CommandContext, Outcome, Run } from './context.ts'

/** `archive_command`: silent when all is well, since PostgreSQL calls it for every segment. */
export const run: Run = async ({ args, options }, context) => {
  const folder = options.fromDirectory as string | undefined
  const path = args[0]
  if ((path === undefined) === (folder === undefined)) {
    throw new PgrecallError('usage', 'wal-push takes either the path of a file or --from-directory', {
      hint: `archive_command is: pgrecall wal-push "%p"`,
    })
  }
  if (options.remove && folder === undefined)
    throw new PgrecallError('usage', '--remove is for --from-directory; PostgreSQL removes its own files')
  if (folder !== undefined) return pushFolder(resolve(context.cwd, folder), options.remove === true, context)
  return pushOne(path!, options.json === true, context)
}

async function pushOne(path: string, asJson: boolean, context: CommandContext): Promise<Outcome> {
  const { config } = context.cluster()
  const target = targetOf(context)
  const name = nameInPgWal(context.cwd, path)
  const result =
    name === undefined || asJson
      ? await pushAlone({ ...target, path: resolve(context.cwd, path) }, context)
      : await archiveWaiting(
          {
            ...target,
            root: context.cwd,
            name,
            call: context.env.PGRECALL_CALL,
            config: context.config(),
            batch: config.wal.batch,
            jobs: config.wal.jobs,
            queueMax: config.wal.queueMax,
          },
          context.events,
        )
  if (!result) return { text: '', json: { givenUp: name } }
  const facts = factsOf(result)
  context.events.emit('detail', { text: `Archived ${result.name}`, facts })
  return { text: '', json: facts }
}

async function pushAlone(request: PushRequest, { events }: CommandContext): Promise<PushResult> {
  const result = await pushWalFile(request)
  const shortfalls = new Shortfalls()
  shortfalls.add(result.name, result.repositories)
  for (const text of shortfalls.warnings) events.emit('warning', { text })
  return result
}

async function pushFolder(folder: string, remove: boolean, context: CommandContext): Promise<Outcome> {
  const { config } = context.cluster()
  if (folder === config.wal.receive.directory) {
    throw new PgrecallError('refused', `${folder} is where wal-receive works, which stores what lies there`)
  }
  const result = await archiveFolder({ ...targetOf(context), folder, remove, jobs: config.wal.jobs })
  for (const name of result.unfinished) {
    context.events.emit('warning', { text: `${name} is not whole yet and was left for the next time` })
  }
  for (const text of result.shortfalls) context.events.emit('warning', { text })
  for (const { error } of result.failures) context.events.emit('warning', { text: reasonOf(error) })
  const { failures, ...facts } = result
  return {
    text: folderText(folder, result),
    json: { ...facts, failed: failures.map(({ name, error }) => ({ name, reason: reasonOf(error) })) },
    exitCode: failures.length > 0 ? exitCodeOf(failures[0]!.error) : 0,
  }
}

function folderText(folder: string, { stored, existed, bytes, removed, failures }: FolderResult): string {
  const parts = [
    `${stored} stored`,
    `${existed} there already`,
    ...(removed > 0 ? [`${removed} removed`] : []),
    ...(failures.length > 0 ? [`${failures.length} failed and stay`] : []),
  ]
  return `WAL files of ${folder}, ${formatBytes(bytes)}: ${parts.join(', ')}.`
}

export function targetOf(context: CommandContext) {
  const { name, config } = context.cluster()
  const codec = parseCodec(config.backup.compression)
  return {
    cluster: name,
    repositories: context.repositories(),
    level: typeof codec === 'object' && codec.method === 'zstd' ? codec.level : 1,
    signal: context.signal,
  }
}

const factsOf = ({ changedAtNs: _time, ...facts }: PushResult) => facts
