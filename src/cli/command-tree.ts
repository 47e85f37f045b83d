import type { Command, Option } from 'commander'

/** What may follow: the words of `choices`, file names, folder names, or anything (nothing to offer). */
export type Value = { kind: 'choices'; choices: string[] } | { kind: 'file' | 'dir' | 'any' }

export interface Flag {
  names: string[]
  description: string
  /** Undefined for an option that takes no value. */
  value: Value | undefined
  optional: boolean
}

export interface Node {
  /** The words that lead here, e.g. ['wal', 'list']; empty for the program itself. */
  path: string[]
  /** Its own name and aliases; the first is the one to offer. */
  names: string[]
  description: string
  children: Node[]
  flags: Flag[]
  arguments: { value: Value; variadic: boolean }[]
}

export function describe(command: Command, path: string[], inherited: Flag[]): Node[] {
  const help = command.createHelp()
  const own = help.visibleOptions(command).map(describeOption)
  const taken = new Set(own.flatMap((flag) => flag.names))
  const flags = [...own, ...inherited.filter((flag) => !flag.names.some((name) => taken.has(name)))]
  const below = help
    .visibleCommands(command)
    .filter((child) => isPlainWord(child.name()))
    .map((child) => describe(child, [...path, child.name()], flags))
  const node: Node = {
    path,
    names: [command.name(), ...command.aliases()].filter(isPlainWord),
    description: firstSentence(command.summary() || command.description()),
    children: below.map((nodes) => nodes[0]!),
    flags,
    arguments: command.registeredArguments.map((argument) => ({
      value: describeValue(argument.argChoices, argument.name()),
      variadic: argument.variadic,
    })),
  }
  return [node, ...below.flat()]
}

function describeOption(option: Option): Flag {
  const placeholder = /[<[]([^\]>.]+)/.exec(option.flags)?.[1] ?? ''
  const takesValue = option.required || option.optional
  return {
    names: [option.long, option.short].filter((name) => name !== undefined),
    description: firstSentence(option.description),
    value: takesValue ? describeValue(option.argChoices, placeholder) : undefined,
    optional: option.optional,
  }
}

function describeValue(choices: string[] | undefined, placeholder: string): Value {
  if (choices !== undefined) return { kind: 'choices', choices: choices.filter(isPlainWord) }
  if (/^(?:file|path)$/i.test(placeholder)) return { kind: 'file' }
  if (/^(?:dir|directory)$/i.test(placeholder)) return { kind: 'dir' }
  return { kind: 'any' }
}

/** Whether a word is the same in all three shells without quotes. Words that are not are never offered. */
function isPlainWord(word: string): boolean {
  return /^[\w.+@%/-]+$/.test(word)
}

function firstSentence(text: string): string {
  return text.split(/\n|\. |\.$/)[0]!.trim()
}
