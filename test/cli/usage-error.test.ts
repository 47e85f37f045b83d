import { expect, test } from 'vitest'
import { buildProgram } from '../../src/cli/program.ts'
import { errorFacts } from '../../src/cli/report.ts'
import { throwUsageErrors } from '../../src/cli/usage-error.ts'

async function factsOf(...words: string[]) {
  const program = buildProgram('1.2.3', async () => {})
  throwUsageErrors(program)
  const error = await program.parseAsync(words, { from: 'user' }).then(
    () => expect.fail('it is no mistake'),
    (error: unknown) => error,
  )
  return errorFacts(error, undefined)
}

test.each([
  [['backup', '--tpye', 'full'], 'pgrecall backup --help', "unknown option '--tpye'"],
  [['backup', '--jobs'], 'pgrecall backup --help', 'argument missing'],
  [['key', 'new', '--ouput', 'x'], 'pgrecall key new --help', "unknown option '--ouput'"],
  [['key', 'nwe'], 'pgrecall key --help', "unknown command 'nwe'"],
  [['bakcup'], 'pgrecall COMMAND --help', "unknown command 'bakcup'"],
])('a mistake in %j leads to the help that mends it', async (words, help, message) => {
  const facts = await factsOf(...words)
  expect(facts.kind).toBe('usage')
  expect(facts.message).toContain(message)
  expect(facts.hint).toContain(`"${help}"`)
})

test('the help of a group has the examples of its commands', () => {
  const program = buildProgram('1.2.3', async () => {})
  const groups = program.commands.filter(({ commands }) => commands.length > 0)
  expect(groups.map((group) => group.name())).toEqual(['key', 'catalog', 'schedule'])
  for (const group of groups) {
    let help = ''
    group.configureOutput({ writeOut: (text) => (help += text) }).outputHelp()
    for (const command of group.commands)
      expect(help).toContain(`\n  pgrecall ${group.name()} ${command.name()}`)
  }
})
