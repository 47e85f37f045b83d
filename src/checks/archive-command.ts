import { basename } from 'node:path'
import { type Finding, fail, pass, warn } from './finding.ts'
import { readShellLine, type ShellCommand } from './shell-command.ts'

/** What `archive_command` does, as far as its text tells. */
export type ArchiveCommand =
  | { kind: 'none' }
  /** It stores nothing, whatever it is asked: PostgreSQL then forgets the WAL (`true`), or keeps all of it (`false`). */
  | { kind: 'void'; succeeds: boolean }
  | { kind: 'other'; program: string }
  /** It has `wal-push` in it, and only a shell can tell how. */
  | { kind: 'script' }
  | { kind: 'push'; call: PushCall }

export interface PushCall {
  /** As it is written: a path, or a name that is looked for on the server's PATH. */
  program: string
  /** What the call names; undefined where it is left to pgrecall. */
  config: string | undefined
  cluster: string | undefined
  repository: string | undefined
  /** Whether it is given the path of the segment, `%p`. */
  hasPath: boolean
  /** Whether what comes behind hides a failure from PostgreSQL, as `|| true` does. */
  hidesFailure: boolean
}

/** @see https://www.postgresql.org/docs/current/runtime-config-wal.html#GUC-ARCHIVE-COMMAND */
export function readArchiveCommand(setting: string): ArchiveCommand {
  const text = setting.trim()
  if (text === '') return { kind: 'none' }
  const commands = readShellLine(text)
  const at = commands?.findIndex(({ words }) => words.includes('wal-push')) ?? -1
  if (commands && at >= 0) return { kind: 'push', call: pushCall(commands, at) }
  if (/\bwal-push\b/.test(text)) return { kind: 'script' }
  const [first] = commands ?? []
  const name = basename(first?.words.find((word) => !isAssignment(word)) ?? '')
  if (commands?.length === 1 && ['true', ':', 'false'].includes(name))
    return { kind: 'void', succeeds: name !== 'false' }
  if (commands?.length === 1 && name === 'exit')
    return { kind: 'void', succeeds: (first!.words[1] ?? '0') === '0' }
  return { kind: 'other', program: programOf(text) }
}

const isAssignment = (word: string) => /^\w+=/.test(word)

/** The first word that is no assignment: the whole may hold a secret. */
const programOf = (text: string) => text.split(/\s+/).find((word) => !isAssignment(word)) ?? 'another command'

function pushCall(commands: readonly ShellCommand[], at: number): PushCall {
  const { words } = commands[at]!
  const verb = words.indexOf('wal-push')
  const before = words.slice(0, verb)
  const named = before.filter((word) => !isAssignment(word))
  // In front of it there may be others, such as timeout or nice.
  const program = named.find((word) => basename(word) === 'pgrecall') ?? named[0] ?? ''
  const ownWords = words.slice(words.indexOf(program) + 1)
  const option = (name: string) => {
    const index = ownWords.findLastIndex((word) => word === name || word.startsWith(`${name}=`))
    if (index < 0) return undefined
    const word = ownWords[index]!
    return (word.startsWith(`${name}=`) ? word.slice(name.length + 1) : ownWords[index + 1])?.replaceAll(
      '%%',
      '%',
    )
  }
  const environment = before.find((word) => word.startsWith('PGRECALL_CONFIG='))
  return {
    program: program.replaceAll('%%', '%'),
    config: option('--config') ?? environment?.slice('PGRECALL_CONFIG='.length).replaceAll('%%', '%'),
    cluster: option('--cluster'),
    repository: option('--repository'),
    hasPath: words.slice(verb + 1).includes('%p'),
    hidesFailure: hidesFailure(commands, at),
  }
}

/** A shell gives back the code of its last command. */
function hidesFailure(commands: readonly ShellCommand[], at: number): boolean {
  const { next } = commands[at]!
  const following = commands[at + 1]
  if (next === '&') return true
  if (next === undefined || next === '&&' || !following) return false
  const [verb, code] = following.words
  const fails = verb === 'false' || (verb === 'exit' && code !== undefined && /^[1-9]\d*$/.test(code))
  return next === '|' || !fails
}

/** What was found of a call on this host; undefined where the server is on another one. */
export interface CallFacts {
  program: 'absent' | 'not executable' | 'ours' | 'another' | undefined
  /** Whether it reads the configuration that is in force here. */
  sameConfig: boolean | undefined
}

/** What is in force here. */
export interface OwnCall {
  launcher: string
  file: string | undefined
  cluster: string
  clusters: number
}

const SUBJECT = 'archive_command'

/**
 * Whether `archive_command` stores the WAL where it belongs.
 * @param mend the line that would
 */
export function judgeArchiveCommand(
  command: ArchiveCommand,
  { program, sameConfig }: CallFacts,
  own: OwnCall,
  mend: string,
): Finding[] {
  if (command.kind === 'none')
    return [fail(SUBJECT, 'archive_command is empty, so nothing is archived', mend)]
  if (command.kind === 'void') {
    const what = command.succeeds
      ? 'tells PostgreSQL that all WAL is stored, and stores none'
      : 'always fails, so WAL piles up in pg_wal'
    return [fail(SUBJECT, `archive_command ${what}`, mend)]
  }
  if (command.kind === 'other')
    return [
      warn(
        SUBJECT,
        `WAL is not archived by "pgrecall wal-push" but by ${command.program}`,
        `${mend}\nor have what it stores fetched: pgrecall wal-push --from-directory DIR (docs/wal.md)`,
      ),
    ]
  if (command.kind === 'script')
    return [
      warn(SUBJECT, 'archive_command has wal-push in it, but only a shell can tell how it is called', mend),
    ]
  const { call } = command
  const findings: Finding[] = []
  if (!call.hasPath) findings.push(fail(SUBJECT, 'archive_command does not name the segment, "%p"', mend))
  if (call.hidesFailure)
    findings.push(
      fail(
        SUBJECT,
        'what stands behind wal-push in archive_command hides its failures from PostgreSQL',
        mend,
      ),
    )
  findings.push(...judgeProgram(call, program, own, mend), ...judgeTarget(call, sameConfig, own, mend))
  if (findings.length > 0) return findings
  const known = program === 'ours' && sameConfig
  return [
    pass(
      SUBJECT,
      `archive_command is ${known ? 'this pgrecall, with this configuration' : 'pgrecall wal-push'}`,
    ),
  ]
}

function judgeProgram(call: PushCall, program: CallFacts['program'], own: OwnCall, mend: string): Finding[] {
  if (!call.program.startsWith('/'))
    return [
      warn(
        SUBJECT,
        `archive_command calls "${call.program}", which the server looks for on its own PATH`,
        mend,
      ),
    ]
  switch (program) {
    case 'absent':
      return [fail(SUBJECT, `archive_command calls ${call.program}, which is not there`, mend)]
    case 'not executable':
      return [fail(SUBJECT, `archive_command calls ${call.program}, which cannot be executed`, mend)]
    case 'another':
      return [warn(SUBJECT, `archive_command calls ${call.program}, and this is ${own.launcher}`, mend)]
    default:
      return []
  }
}

function judgeTarget(call: PushCall, sameConfig: boolean | undefined, own: OwnCall, mend: string): Finding[] {
  const findings: Finding[] = []
  if (sameConfig === false) {
    const reads = call.config ?? 'the one that it finds'
    findings.push(
      warn(
        SUBJECT,
        `archive_command reads another configuration (${reads}) than ${own.file ?? 'the defaults'}`,
        mend,
      ),
    )
  }
  if (call.cluster !== undefined && call.cluster !== own.cluster)
    findings.push(
      fail(SUBJECT, `archive_command archives as cluster "${call.cluster}", this is "${own.cluster}"`, mend),
    )
  else if (call.cluster === undefined && own.clusters > 1 && sameConfig !== false)
    findings.push(
      fail(
        SUBJECT,
        `archive_command names no cluster, and the configuration has ${own.clusters} of them`,
        mend,
      ),
    )
  if (call.repository !== undefined)
    findings.push(
      warn(
        SUBJECT,
        `archive_command stores into repository "${call.repository}" alone, not into all of the cluster's`,
        mend,
      ),
    )
  return findings
}
