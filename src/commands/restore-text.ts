import { formatBytes, formatCount } from '../cli/units.ts'
import type { TargetFolder } from '../restore/data-directory.ts'
import type { Database } from '../restore/databases.ts'
import type { RestorePlan } from '../restore/plan.ts'
import type { RestoreResult } from '../restore/restore-cluster.ts'

/** The plan, for people. */
export function planText(plan: RestorePlan, targets: readonly TargetFolder[]): string {
  const { backup, wal, target } = plan
  const inUse = targets.filter(({ entries }) => entries.length > 0)
  const lines = [
    `Backup    ${backup.id} from repository "${plan.repository}", ${formatBytes(plan.clusterBytes)} in ${formatCount(backup.files, 'file')} (stored ${formatBytes(storedBytes(plan))})`,
    ...chainLines(plan),
    ...databaseLines(plan),
    `To        ${plan.dataDirectory}`,
    ...plan.tablespaces.map(
      ({ name, from, to }) =>
        `          tablespace ${name} ${from === to ? `at ${to}` : `from ${from} to ${to}`}`,
    ),
    `Target    ${target.text}${target.exclusive ? ', exclusive' : ''}${plan.recoversTo && plan.recoversTo !== target.text ? ` (${plan.recoversTo})` : ''}, timeline ${plan.timeline}`,
    plan.recovers
      ? `WAL       ${formatCount(wal.segments, 'segment')}${wal.legs.map(({ timeline, first, last }) => `, timeline ${timeline}: ${first} to ${last}`).join('')}`
      : 'WAL       none: the cluster was shut down',
    `Then      ${afterwards(plan)}`,
    `Settings  ${plan.settings.signalFile ? `${plan.settings.signalFile} and ` : ''}${plan.settings.file}:`,
    ...[...plan.settings.lines, ...plan.settings.serverLines]
      .filter((line) => !line.endsWith("= ''"))
      .map((line) => `            ${line}`),
    ...inUse.map(({ path, goesOn }) =>
      goesOn
        ? `Delta     writes what differs in ${path}, and removes what is not in the backup`
        : `Removes   everything that is in ${path} now`,
    ),
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

const storedBytes = ({ chain }: RestorePlan) => chain.reduce((sum, link) => sum + link.storedBytes, 0)

function chainLines({ chain }: RestorePlan): string[] {
  if (chain.length === 1) return []
  return chain.map(({ id, type, storedBytes }, index) => {
    const what = index === 0 ? 'Chain     ' : '        + '
    return `${what}${id} (${type}, stored ${formatBytes(storedBytes)})`
  })
}

function databaseLines({ partial }: RestorePlan): string[] {
  if (!partial) return []
  return [
    `Databases ${listOf(partial.kept)}`,
    `Without   ${listOf(partial.emptied)}: placeholders that can only be dropped`,
  ]
}

const listOf = (databases: readonly Database[]) =>
  databases.map(({ oid, name }) => (name === undefined ? `oid ${oid}` : `"${name}"`)).join(', ') || 'none'

/** What was done, and what comes next. @param took how long it took, for people */
export function resultText(plan: RestorePlan, { bytes, files, delta }: RestoreResult, took: string): string {
  const share = delta
    ? ` (${formatBytes(delta.writtenBytes)} written, ${formatBytes(delta.keptBytes)} left as they were)`
    : ''
  return [
    `Restored ${plan.backup.id} to ${plan.dataDirectory}: ${formatBytes(bytes)} in ${formatCount(files, 'file')}${share}, checked and synced, in ${took}.`,
    nextSteps(plan),
    ...dropLines(plan),
  ].join('\n')
}

/** Placeholders take no space; but they stand in the way of a dump or a vacuum of all databases. */
function dropLines({ partial }: RestorePlan): string[] {
  if (!partial || partial.emptied.length === 0) return []
  const drops = partial.emptied.map(({ oid, name }) =>
    name === undefined
      ? `the one that SELECT datname FROM pg_database WHERE oid = ${oid} names`
      : `DROP DATABASE ${quoteIdentifier(name)};`,
  )
  return ['Then drop the databases that were left out:', ...drops.map((line) => `  ${line}`)]
}

const quoteIdentifier = (name: string) => `"${name.replaceAll('"', '""')}"`

function nextSteps(plan: RestorePlan): string {
  const start = `Next: start the server (pg_ctl -D ${plan.dataDirectory} start).`
  if (!plan.recovers) return `${start} It opens as it was shut down.`
  return `${start} It replays ${plan.wal.segments} WAL segments up to ${plan.target.text}; then ${afterwards(plan)}.`
}
