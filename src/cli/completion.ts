import type { Command } from 'commander'
import { describe, type Node, type Value } from './command-tree.ts'

export type Shell = 'bash' | 'zsh' | 'fish'

/**
 * Writes the completion script of a shell: static, so that pressing Tab never starts the program. It completes
 * subcommands, options, the choices of options and arguments, and files or folders where the placeholder says
 * `<file>`, `<path>`, `<dir>` or `<directory>`. What is hidden from the help is left out.
 * @param program the whole command tree; options of a command are also offered below it, as commander accepts
 *   them there
 * @returns the text of the script, for the command name `pgrecall`
 */
export function completionScript(shell: Shell, program: Command): string {
  const nodes = describe(program, [], [])
  return { bash, zsh, fish }[shell](nodes)
}

/**
 * The case arms that walk over the words before the cursor, the same text for bash and zsh. State: `at`, the
 * command reached; `want`, the kind of value that the last option takes; `may`, whether it can go without;
 * `count`, the arguments seen; `plain`, whether `--` was seen.
 */
function walkArms(nodes: Node[]): string {
  const arms = nodes.flatMap(({ path, flags, children }) => {
    const at = path.join(' ')
    const patterns = (names: string[]) => names.map((name) => `'${at}|${name}'`).join('|')
    return [
      ...flags
        .filter((flag) => flag.value !== undefined)
        .map(
          (flag) => `${patterns(flag.names)}) want=${wanted(flag.value!)}${flag.optional ? ' may=1' : ''} ;;`,
        ),
      ...children.map((child) => `${patterns(child.names)}) at='${child.path.join(' ')}' count=0 ;;`),
    ]
  })
  return [...arms, "*'|--') plain=1 ;;", "*'|-'*) ;;", '*) ((++count)) ;;']
    .map((arm) => `    ${arm}`)
    .join('\n')
}

/** The arms that choose what to offer at the cursor, when it is neither an option nor the value of one. */
function argumentArms(nodes: Node[]): string {
  return nodes
    .flatMap((node) => {
      const at = node.path.join(' ')
      return node.arguments.map(
        ({ value, variadic }, index) => `'${at}|'${variadic ? '*' : index}) want=${wanted(value)} ;;`,
      )
    })
    .concat('*) want=@any ;;')
    .map((arm) => `      ${arm}`)
    .join('\n')
}

function wanted(value: Value): string {
  return value.kind === 'choices' ? `'${value.choices.join(' ')}'` : `@${value.kind}`
}

function bash(nodes: Node[]): string {
  const arms = (variable: string, words: (node: Node) => string[]) =>
    nodes
      .map((node) => `      '${node.path.join(' ')}') ${variable}='${words(node).join(' ')}' ;;`)
      .join('\n')
  return `# bash completion for pgrecall

_pgrecall_step() {
  case "$at|$1" in
${walkArms(nodes)}
  esac
}

_pgrecall() {
  local at='' want='' word cur commands='' i
  local -i count=0 plain=0 may=0
  local -a seen=()
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    # Readline divides --option=value in three.
    [[ \${COMP_WORDS[i]} == '=' && \${COMP_WORDS[i - 1]} == --* ]] || seen+=("\${COMP_WORDS[i]}")
  done
  cur=\${COMP_WORDS[COMP_CWORD]}
  if [[ $cur == '=' ]]; then cur=''; fi

  for word in "\${seen[@]}"; do
    if [[ -n $want ]]; then
      want=''
      if ((!may)) || [[ $word != -* ]]; then may=0; continue; fi
      may=0
    fi
    if ((plain)); then ((++count)); else _pgrecall_step "$word"; fi
  done

  if [[ -n $want ]] && ! { ((may)) && [[ $cur == -* ]]; }; then
    :
  elif ((!plain)) && [[ $cur == -* ]]; then
    case "$at" in
${arms('want', (node) => node.flags.flatMap((flag) => flag.names))}
    esac
  else
    case "$at" in
${arms('commands', (node) => node.children.map((child) => child.names[0]!))}
    esac
    case "$at|$count" in
${argumentArms(nodes)}
    esac
    if ((count == 0 && !plain)) && [[ -n $commands ]]; then want=$commands; fi
  fi

  case $want in
    @any) ;;
    @file)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      ;;
    @dir)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -d -- "$cur")
      ;;
    *) mapfile -t COMPREPLY < <(compgen -W "$want" -- "$cur") ;;
  esac
}

complete -F _pgrecall pgrecall
`
}

function zsh(nodes: Node[]): string {
  const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`
  const item = (name: string, description: string) =>
    quoted(`${name.replaceAll(':', '\\:')}${description === '' ? '' : `:${description}`}`)
  const arms = (variable: string, items: (node: Node) => string[]) =>
    nodes
      .map((node) => `      '${node.path.join(' ')}') ${variable}=(${items(node).join(' ')}) ;;`)
      .join('\n')
  return `#compdef pgrecall
compdef _pgrecall pgrecall

_pgrecall_step() {
  case "$at|$1" in
${walkArms(nodes)}
  esac
}

_pgrecall() {
  local at='' want='' word
  local -i count=0 plain=0 may=0 i
  local -a below flags
  for ((i = 2; i < CURRENT; i++)); do
    word=\${words[i]}
    if [[ -n $want ]]; then
      want=''
      if ((!may)) || [[ $word != -* ]]; then may=0; continue; fi
      may=0
    fi
    if ((plain)); then ((++count)); else _pgrecall_step "$word"; fi
  done

  if ((!plain)) && [[ -z $want && $PREFIX == --*=* ]]; then
    _pgrecall_step "\${PREFIX%%=*}"
    compset -P '*='
    [[ -n $want ]] || return 1
  elif [[ -n $want ]] && ! { ((may)) && [[ $PREFIX == -* ]]; }; then
    :
  elif ((!plain)) && [[ $PREFIX == -* ]]; then
    case "$at" in
${arms('flags', (node) => node.flags.flatMap((flag) => flag.names.map((name) => item(name, flag.description))))}
    esac
    _describe -o option flags
    return
  else
    case "$at" in
${arms('below', (node) => node.children.map((child) => item(child.names[0]!, child.description)))}
    esac
    if ((count == 0 && !plain && \${#below} > 0)); then
      _describe command below
      return
    fi
    case "$at|$count" in
${argumentArms(nodes)}
    esac
  fi

  case $want in
    @any) return 1 ;;
    @file) _files ;;
    @dir) _files -/ ;;
    *) compadd -- \${=want} ;;
  esac
}

if [[ \${funcstack[1]} == _pgrecall ]]; then _pgrecall; fi
`
}

function fish(nodes: Node[]): string {
  const quoted = (text: string) => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
  const offer = (value: Value) =>
    ({
      file: '-rF',
      dir: "-xa '(__fish_complete_directories)'",
      any: '-x',
      choices: `-xa ${quoted(value.kind === 'choices' ? value.choices.join(' ') : '')}`,
    })[value.kind]

  const walk = nodes.flatMap(({ path, flags, children }) => {
    const patterns = (names: string[]) => names.map((name) => quoted(`${path.join(' ')}|${name}`)).join(' ')
    return [
      ...flags
        .filter((flag) => flag.value !== undefined && !flag.optional)
        .map((flag) => `case ${patterns(flag.names)}\n                set skip 1`),
      ...children.map(
        (child) => `case ${patterns(child.names)}\n                set at ${quoted(child.path.join(' '))}`,
      ),
    ]
  })

  const entries = nodes.flatMap((node) => {
    const start = `complete -c pgrecall -n ${quoted(`__pgrecall_at ${quoted(node.path.join(' '))}`)}`
    const describedAs = (text: string) => (text === '' ? '' : ` -d ${quoted(text)}`)
    return [
      ...node.children.map((child) => `${start} -a ${child.names[0]}${describedAs(child.description)}`),
      ...node.flags.map((flag) => {
        const names = flag.names.map((name) =>
          name.startsWith('--') ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`,
        )
        const value = flag.value === undefined || flag.optional ? '' : ` ${offer(flag.value)}`
        return `${start} ${names.join(' ')}${value}${describedAs(flag.description)}`
      }),
      ...node.arguments
        .filter(({ value }) => value.kind !== 'any')
        .map(({ value }) => `${start} ${offer(value).replace(/^-(?:r|x)/, '-')}`),
    ]
  })

  return `# fish completion for pgrecall

function __pgrecall_at --argument-names wanted
    set -l words (commandline -opc)
    set -e words[1]
    set -l at ''
    set -l skip 0
    for word in $words
        if test $skip = 1
            set skip 0
            continue
        end
        switch "$at|$word"
            ${walk.join('\n            ')}
        end
    end
    test "$at" = "$wanted"
end

complete -c pgrecall -f
${entries.join('\n')}
`
}
