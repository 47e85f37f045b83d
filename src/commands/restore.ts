import { resolve } from 'node:path'
import type { Repository } from '../catalog/repository.ts'
import { formatBytes, formatDuration } from '../cli/units.ts'
import { PgrecallError } from '../errors.ts'
import { quoteForRestoreCommand } from '../postgres/recovery-settings.ts'
import type { RestorePlan } from '../restore/plan.ts'
import { prepareRestore } from '../restore/prepare-plan.ts'
import type { RestoreQuestion } from '../restore/question.ts'
import { inspectRestore, restoreCluster } from '../restore/restore-cluster.ts'
import { parseMoment, parseTargetLsn, parseTargetXid, type Target } from '../restore/target.ts'
import type { CommandContext, Run } from './context.ts'

export const run: Run = async ({ args, options }, context) => {
  const { name, config } = context.cluster()
  const directory = (options.dataDirectory as string | undefined) ?? config.dataDirectory
  if (directory === undefined) {
    throw new PgrecallError('usage', 'it is not said where to restore to', {
      hint: `add --data-directory DIR, or set clusters.${name}.dataDirectory in the configuration`,
    })
  }
  const { plan, repository } = await prepareRestore(
    {
      cluster: name,
      question: questionOf(args[0], options),
      dataDirectory: resolve(context.cwd, directory),
      tablespaceMap: tablespaceMapOf(options.tablespace as string[], context.cwd),
      restoreCommandFor: (from) => restoreCommand(name, from, context),
    },
    { repositories: context.repositories(), events: context.events, signal: context.signal },
  )
  const targets = await inspectRestore(plan, options.force === true)
  const removed = targets.filter(({ remove }) => remove.length > 0).map(({ path }) => path)
  const words = planText(plan, removed)
  if (options.dryRun) return { text: words, json: { dryRun: true, plan, replaces: removed } }

  context.events.emit('notice', { lines: words.split('\n') })
  const begun = context.now()
  const result = await restoreCluster(plan, targets, {
    repository,
    events: context.events,
    signal: context.signal,
    now: context.now,
    isRoot: context.isRoot,
    jobs: (options.jobs as number | undefined) ?? config.restore.jobs,
  })
  const took = formatDuration(context.now().getTime() - begun.getTime())
  return {
    text: `Restored ${plan.backup.id} to ${plan.dataDirectory}: ${formatBytes(result.bytes)} in ${result.files} files, checked and synced, in ${took}.\n${nextSteps(plan)}`,
    json: { dryRun: false, plan, replaces: removed, ...result },
  }
}

function questionOf(id: string | undefined, options: Record<string, unknown>): RestoreQuestion {
  const targets: Target[] = []
  if (options.time !== undefined) targets.push({ kind: 'time', micros: parseMoment(options.time as string) })
  if (options.lsn !== undefined) targets.push({ kind: 'lsn', lsn: parseTargetLsn(options.lsn as string) })
  if (options.xid !== undefined) targets.push({ kind: 'xid', xid: parseTargetXid(options.xid as string) })
  if (options.name !== undefined) targets.push({ kind: 'name', name: options.name as string })
  if (options.immediate) targets.push({ kind: 'immediate' })
  if (targets.length > 1) {
    throw new PgrecallError('usage', 'a restore has one target', {
      hint: 'give one of --time, --lsn, --xid, --name and --immediate',
    })
  }
  const target: Target = targets[0] ?? { kind: 'end' }
  if (options.exclusive && !['time', 'lsn', 'xid'].includes(target.kind)) {
    throw new PgrecallError(
      'usage',
      '--exclusive stops just before a target, and this restore has none that it can stop before',
      {
        hint: 'give it with --time, --lsn or --xid, or leave it out',
      },
    )
  }
  const timeline = options.targetTimeline as string
  if (!/^(?:latest|current|[1-9]\d{0,8})$/.test(timeline)) {
    throw new PgrecallError('usage', `--target-timeline "${timeline}" is no timeline`, {
      hint: 'use latest, current or a number such as 2',
    })
  }
  return {
    backup: id === undefined || id === 'latest' ? undefined : id,
    target,
    exclusive: options.exclusive === true,
    action: options.targetAction as 'pause' | 'promote' | 'shutdown',
    timeline: timeline === 'latest' || timeline === 'current' ? timeline : Number(timeline),
    standby: options.standby === true,
    archiveMode: options.archiveMode as 'preserve' | 'off',
  }
}

function tablespaceMapOf(mappings: readonly string[], cwd: string): Map<string, string> {
  return new Map(
    mappings.map((mapping) => {
      const equals = mapping.indexOf('=')
      if (equals < 1 || equals === mapping.length - 1) {
        throw new PgrecallError('usage', `--tablespace "${mapping}" is not of the form OLD=NEW`, {
          hint: 'OLD is the location, the name or the oid of a tablespace, NEW its new folder',
        })
      }
      return [mapping.slice(0, equals), resolve(cwd, mapping.slice(equals + 1))]
    }),
  )
}

/** How the restored server fetches its WAL: this very program, configuration and repository. */
function restoreCommand(cluster: string, repository: Repository, context: CommandContext): string {
  const { file } = context.config()
  const words = [
    context.launcher,
    ...(file === undefined ? [] : ['--config', file]),
    '--cluster',
    cluster,
    '--repository',
    repository.name,
    'wal-fetch',
  ]
  return `${words.map(quoteForRestoreCommand).join(' ')} "%f" "%p"`
}

function planText(plan: RestorePlan, removed: readonly string[]): string {
  const { backup, wal, target } = plan
  const lines = [
    `Backup    ${backup.id} from repository "${plan.repository}", ${formatBytes(backup.dataBytes)} in ${backup.files} files (stored ${formatBytes(backup.storedBytes)})`,
    `To        ${plan.dataDirectory}`,
    ...plan.tablespaces.map(
      ({ name, from, to }) =>
        `          tablespace ${name} ${from === to ? `at ${to}` : `from ${from} to ${to}`}`,
    ),
    `Target    ${target.text}${target.exclusive ? ', exclusive' : ''}${plan.recoversTo && plan.recoversTo !== target.text ? ` (${plan.recoversTo})` : ''}, timeline ${plan.timeline}`,
    plan.recovers
      ? `WAL       ${wal.segments} segments${wal.legs.map(({ timeline, first, last }) => `, timeline ${timeline}: ${first} to ${last}`).join('')}`
      : 'WAL       none: the cluster was shut down',
    `Then      ${afterwards(plan)}`,
    `Settings  ${plan.settings.signalFile ? `${plan.settings.signalFile} and ` : ''}${plan.settings.file}:`,
    ...[...plan.settings.lines, ...plan.settings.serverLines]
      .filter((line) => !line.endsWith("= ''"))
      .map((line) => `            ${line}`),
    ...removed.map((path) => `Removes   everything that is in ${path} now`),
    ...plan.warnings.map((text) => `Note      ${text}`),
  ]
  return `Restore plan\n${lines.map((line) => `  ${line}`).join('\n')}`
}

function afterwards({ standby, target, recovers }: RestorePlan): string {
  if (!recovers) return 'the server opens as it was shut down'
  if (standby) return 'the server goes on as a standby'
  if (target.kind === 'end') return 'the server opens for reading and writing'
  return {
    promote: 'the server opens for reading and writing at the target',
    pause: 'the server pauses at the target and can be read; SELECT pg_wal_replay_resume() opens it',
    shutdown: 'the server shuts down at the target',
  }[target.action as 'promote' | 'pause' | 'shutdown']
}

function nextSteps(plan: RestorePlan): string {
  const start = `Next: start the server (pg_ctl -D ${plan.dataDirectory} start).`
  if (!plan.recovers) return `${start} It opens as it was shut down.`
  return `${start} It replays ${plan.wal.segments} WAL segments up to ${plan.target.text}; then ${afterwards(plan)}.`
}
