import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from 'commander'
import { expect, test } from 'vitest'
import { manualPage } from '../../src/cli/manual.ts'
import { buildProgram, examplesOf } from '../../src/cli/program.ts'
import { configPaths } from '../../src/config/load.ts'
import { EXIT_CODES } from '../../src/errors.ts'

const program = buildProgram('1.2.3', async () => {})
const page = manualPage(program, '1.2.3')
const SOURCE = join(import.meta.dirname, '../../src')

/** What a reader sees of a line. */
const shown = (text: string) =>
  text
    .replaceAll('\\(aq', "'")
    .replaceAll('\\(dq', '"')
    .replaceAll('\\(ti', '~')
    .replaceAll('\\(ha', '^')
    .replaceAll('\\-', '-')
    .replaceAll('\\&', '')
    .replaceAll('\\e', '\\')

/** The terms that are explained below a heading: `.TP`, then `.B` and the term. */
function termsOf(heading: string): string[] {
  const from = page.indexOf(`\n${heading}\n`)
  const text = page.slice(from, page.indexOf('\n.S', from + 1))
  return [...text.matchAll(/^\.TP\n\.B (.*)$/gm)].map(([, term]) => shown(term!))
}

/** The commands that do something, by what leads to them. */
function commandsBelow(command: Command, path: string[]): [string, Command][] {
  return command.commands
    .filter((child) => !(child as Command & { _hidden: boolean })._hidden)
    .flatMap((child) => {
      const here = [...path, child.name()]
      return child.commands.length > 0
        ? commandsBelow(child, here)
        : ([[here.join(' '), child]] as [string, Command][])
    })
}

test('the manual has every command with all of its options, and nothing that is made up', () => {
  const commands = commandsBelow(program, ['pgrecall'])
  const sections = [...page.matchAll(/^\.SS (.*)$/gm)].map(([, title]) => title!)
  expect(sections.map((title) => shown(title).replace(/ [[<].*/, ''))).toEqual(commands.map(([path]) => path))
  for (const [index, [, command]] of commands.entries()) {
    const declared = [
      ...command.registeredArguments.map((argument) => argument.name()),
      ...command.options.filter((option) => !option.hidden).map((option) => option.flags),
    ]
    expect(termsOf(`.SS ${sections[index]}`)).toEqual(declared)
  }
  expect(termsOf('.SH OPTIONS')).toEqual([...program.options.map((option) => option.flags), '-h, --help'])
})

test('it has the exit codes, and names no variable and no path that the program does not know', () => {
  const codes = Object.values(EXIT_CODES).map(({ code }) => String(code))
  expect(termsOf('.SH EXIT STATUS')).toEqual(['0', ...codes])
  const source = readdirSync(SOURCE, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts') && !file.endsWith('manual.ts'))
    .map((file) => readFileSync(join(SOURCE, file), 'utf8'))
    .join('\n')
  const names = termsOf('.SH ENVIRONMENT').flatMap((term) => term.split(', '))
  // Those are read by the SDK and by node-postgres.
  const foreign = ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_PROFILE', 'AWS_REGION', 'PGPASSWORD']
  expect(names.filter((name) => !foreign.includes(name) && !source.includes(`env.${name}`))).toEqual([])
  expect(termsOf('.SH FILES')).toEqual(expect.arrayContaining(configPaths({ env: {}, home: '~' })))
})

test('it shows the examples of the help', () => {
  const examples = [...page.matchAll(/^\.EX\n([\s\S]*?)\n\.EE$/gm)].map(([, text]) => shown(text!))
  expect(examples.some((text) => text.includes('pgrecall backup --type full\n'))).toBe(true)
  expect(examples.at(-1)).toContain('pgrecall restore --time "2026-11-20 17:29"')
})

test('the examples of retention fit 80 columns', () => {
  const examples = examplesOf(program.commands.find((command) => command.name() === 'retention')!)
  expect(examples.length).toBeGreaterThan(2)
  expect(examples.filter((line) => line.length > 78)).toEqual([])
})

test('groff finds nothing to warn of', (context) => {
  const { status, stderr, stdout, error } = spawnSync('groff', ['-man', '-ww', '-Tutf8'], {
    input: page,
    encoding: 'utf8',
  })
  if (error) return context.skip('groff is not installed')
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  expect(stdout).toContain('--max-rate')
})
