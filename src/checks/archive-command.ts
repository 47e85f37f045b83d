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
  /** Whether PostgreSQL may be told that it succeeded when it failed or was not run, as by `|| true` behind it. */
  hidesFailure: boolean
}

/** @see https://www.postgresql.org/docs/current/runtime-config-wal.html#GUC-ARCHIVE-COMMAND */
export function readArchiveCommand(setting: string): ArchiveCommand {
  const text = setting.trim()
  if (text === '') return { kind: 'none' }
  const commands = readShellLine(text)
  // Nothing but a comment.
  if (commands?.length === 0) return { kind: 'void', succeeds: true }
  const at = commands?.findIndex(({ words }) => words.includes('wal-push')) ?? -1
  const call = commands && at >= 0 ? pushCall(commands, at) : undefined
  if (call) return { kind: 'push', call }
  if (at >= 0 || (!commands && /\bwal-push\b/.test(text))) return { kind: 'script' }
  const answers = commands?.length === 1 ? answersOf(commands[0]!.words, true) : []
  if (answers.length === 1) return { kind: 'void', succeeds: answers[0]! }
  return { kind: 'other', program: programOf(text) }
}

const isAssignment = (word: string) => /^\w+=/.test(word)

/** The first word that is no assignment: the whole may hold a secret. */
const programOf = (text: string) => text.split(/\s+/).find((word) => !isAssignment(word)) ?? 'another command'

/** What runs another program as it is told to, and ends as that does. */
const CARRIERS = new Set(['command', 'env', 'exec', 'ionice', 'nice', 'sudo', 'timeout'])

/** Words, as in `nice -n 5`, behind which a program is run. */
const isCarried = (front: readonly string[]) =>
  front.every((word, index) =>
    CARRIERS.has(basename(word))
      ? true
      : index > 0 && (/^[-\d]/.test(word) || front[index - 1]!.startsWith('-')),
  )

/** What makes a list of commands more than one after the other. */
const RESERVED = /^(?:[!{}]|if|then|el(?:se|if)|fi|do|done|case|esac|while|until|for)$/

/** @returns undefined where only a shell can tell how it is called, and whether at all */
function pushCall(commands: readonly ShellCommand[], at: number): PushCall | undefined {
  if (commands.some(({ words }) => RESERVED.test(words[0]!))) return undefined
  const { words } = commands[at]!
  const verb = words.indexOf('wal-push')
  const before = words.slice(0, verb)
  const named = before.filter((word) => !isAssignment(word))
  const program = named.find((word) => basename(word) === 'pgrecall') ?? named[0] ?? ''
  if (!isCarried(named.slice(0, named.indexOf(program)))) return undefined
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
    hasPath: words.slice(verb + 1).some((word) => word.replaceAll('%%', '').includes('%p')),
    hidesFailure: hidesFailure(commands, at),
  }
}

/**
 * Whether the whole can end with 0 although the command at `at` failed or was not run. Follows the list as a shell does; of what
 * other commands answer nothing is known, so each may succeed and may fail.
 */
function hidesFailure(commands: readonly ShellCommand[], at: number): boolean {
  /** How it may stand after the commands so far: whether the last one that ran succeeded. */
  let states = new Set([true])
  let operator: string | undefined
  for (const [index, { words, next }] of commands.entries()) {
    // Of a pipeline the last one's answer counts.
    if (next === '|') continue
    const after = new Set<boolean>()
    for (const isWell of states) {
      const isSkipped = (operator === '&&' && !isWell) || (operator === '||' && isWell)
      const answers = index === at ? [false] : answersOf(words, isWell)
      const ends = !isSkipped && words[0] === 'exit' && next !== '&'
      if (ends && answers.includes(true)) return true
      if (!ends) for (const answer of isSkipped ? [isWell] : answers) after.add(answer)
    }
    // Nobody waits for what runs in the background.
    states = next === '&' ? new Set([true]) : after
    operator = next
  }
  return states.has(true)
}

/** Whether a command may succeed, and whether it may fail. @param before whether the last one succeeded */
function answersOf(words: readonly string[], before: boolean): boolean[] {
  const [program, code] = words.filter((word) => !isAssignment(word))
  // A process has only the low eight bits of its code.
  if (program === 'exit') return [code === undefined ? before : Number(code) % 256 === 0]
  const name = basename(program ?? 'true')
  if (name === 'true' || name === ':') return [true]
  return name === 'false' ? [false] : [true, false]
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
        'archive_command may tell PostgreSQL that WAL is stored when wal-push has failed, or was not run',
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
    case 'ours':
      return []
    case undefined:
      if (basename(call.program) === 'pgrecall') return []
  }
  return [warn(SUBJECT, `archive_command calls ${call.program}, and this is ${own.launcher}`, mend)]
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
