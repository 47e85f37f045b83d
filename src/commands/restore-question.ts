import { resolve } from 'node:path'
import { PgrecallError } from '../errors.ts'
import type { DatabaseChoice } from '../restore/databases.ts'
import type { RestoreQuestion } from '../restore/question.ts'
import { parseMoment, parseTargetLsn, parseTargetXid, type Target } from '../restore/target.ts'

/** What the options of `restore` ask for. @throws PgrecallError `usage` */
export function questionOf(id: string | undefined, options: Record<string, unknown>): RestoreQuestion {
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

/** What `--tablespace OLD=NEW` says. @throws PgrecallError `usage` */
export function tablespaceMapOf(mappings: readonly string[], cwd: string): Map<string, string> {
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

/** Which databases a partial restore is about. @throws PgrecallError `usage` */
export function databaseChoiceOf(options: Record<string, unknown>): DatabaseChoice | undefined {
  const include = options.includeDatabase as string[]
  const exclude = options.excludeDatabase as string[]
  if (include.length > 0 && exclude.length > 0) {
    throw new PgrecallError('usage', 'a restore cannot have both --include-database and --exclude-database', {
      hint: 'say which databases you want, or which you do not want',
    })
  }
  if (include.length > 0) return { kind: 'include', names: include }
  return exclude.length > 0 ? { kind: 'exclude', names: exclude } : undefined
}
