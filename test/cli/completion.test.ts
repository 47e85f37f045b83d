import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Argument, Command, Option } from 'commander'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { completionScript, type Shell } from '../../src/cli/completion.ts'

function program(): Command {
  const root = new Command('pgrecall')
    .option('-c, --config <file>', "the configuration; it's YAML: see [docs]")
    .option('-q, --quiet', 'say less')
  root
    .command('backup')
    .alias('b')
    .description('Take a backup. More text.')
    .addOption(new Option('--compression <name>', 'how').choices(['zstd', 'gzip', 'none']))
    .addOption(new Option('--color [when]').choices(['always', 'never']))
    .addOption(new Option('--secret').hideHelp())
    .option('--label <text>', 'a name')
    .option('--no-verify', 'skip')
  root.command('restore').argument('<backup>').argument('<dir>').option('--staging <directory>', 'where')
  const wal = root.command('wal').description('Work with WAL')
  wal.command('list').option('--json', 'as JSON')
  wal.command('push').argument('<file...>')
  root.command('completion').addArgument(new Argument('<shell>').choices(['bash', 'zsh', 'fish']))
  root.command('internal', { hidden: true })
  return root
}

let folder: string
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'pgrecall-completion-'))
  writeFileSync(path.join(folder, 'script.bash'), completionScript('bash', program()))
  writeFileSync(path.join(folder, 'my file.yaml'), '')
  mkdirSync(path.join(folder, 'my data'))
})
afterAll(() => rmSync(folder, { recursive: true }))

/** What bash offers when Tab is pressed at the end of `words`, divided as readline divides a line. */
function complete(...words: string[]): string[] {
  const driver = `
    source ./script.bash
    COMP_WORDS=(pgrecall "$@") COMP_CWORD=$#
    [[ $(complete -p pgrecall) == 'complete -F _pgrecall pgrecall' ]] || exit 3
    _pgrecall
    printf '%s\\n' "\${COMPREPLY[@]}"`
  const args = ['--norc', '-u', '-c', driver, 'bash', ...words]
  const output = execFileSync('bash', args, { cwd: folder, encoding: 'utf8' })
  return output
    .split('\n')
    .filter((line) => line !== '')
    .sort()
}

const commands = ['backup', 'completion', 'help', 'restore', 'wal']

test.each([
  ['commands', [''], commands],
  ['commands by prefix', ['co'], ['completion']],
  ['commands after an option and its value', ['--config', 'wal', 'co'], ['completion']],
  ['subcommands', ['wal', ''], ['help', 'list', 'push']],
  ['nothing below an argument', ['wal', 'list', ''], []],
  [
    'options with those of the program',
    ['wal', 'list', '-'],
    ['--config', '--help', '--json', '--quiet', '-c', '-h', '-q'],
  ],
  ['options by prefix', ['backup', '--co'], ['--color', '--compression', '--config']],
  ['negated options', ['backup', '--no'], ['--no-verify']],
  ['options below an alias', ['b', '--la'], ['--label']],
  ['hidden options never', ['backup', '--s'], []],
  ['choices of an option', ['backup', '--compression', ''], ['gzip', 'none', 'zstd']],
  ['choices after =', ['backup', '--compression', '='], ['gzip', 'none', 'zstd']],
  ['choices after = by prefix', ['backup', '--compression', '=', 'z'], ['zstd']],
  ['options after --x = y', ['backup', '--compression', '=', 'zstd', '--la'], ['--label']],
  ['choices of an optional value', ['backup', '--color', 'a'], ['always']],
  ['options instead of an optional value', ['backup', '--color', '--la'], ['--label']],
  ['a required value even if it looks like an option', ['backup', '--label', '--json', '--la'], ['--label']],
  ['nothing for a free value', ['backup', '--label', ''], []],
  ['files', ['--config', 'my'], ['my data', 'my file.yaml']],
  ['files by short flag', ['backup', '-c', 'my f'], ['my file.yaml']],
  ['folders', ['restore', '--staging', ''], ['my data']],
  ['nothing for the first argument', ['restore', ''], []],
  ['a folder for the second', ['restore', 'latest', ''], ['my data']],
  ['files for every further argument', ['wal', 'push', 'x', 'y', 'my f'], ['my file.yaml']],
  ['choices of an argument', ['completion', ''], ['bash', 'fish', 'zsh']],
  ['arguments after --', ['wal', 'push', '--', 'my f'], ['my file.yaml']],
  ['no options after --', ['wal', 'push', '--', '--'], []],
])('bash offers %s', (_, words, expected) => {
  expect(complete(...words)).toEqual(expected)
})

test.each(['bash', 'zsh', 'fish'] as Shell[])('%s has no complaint about its script', (shell) => {
  const script = completionScript(shell, program())
  expect(script).not.toMatch(/internal|--secret|undefined/)
  const result = spawnSync(shell, ['-n'], { input: script, encoding: 'utf8' })
  if (result.error !== undefined) return
  expect(result.stderr).toBe('')
  expect(result.status).toBe(0)
})

test('descriptions survive quoting', () => {
  expect(completionScript('zsh', program())).toContain(
    `'--config:the configuration; it'\\''s YAML: see [docs]'`,
  )
  expect(completionScript('fish', program())).toContain(
    String.raw`complete -c pgrecall -n '__pgrecall_at \'backup\'' -l config -s c -rF -d 'the configuration; it\'s YAML: see [docs]'`,
  )
})
