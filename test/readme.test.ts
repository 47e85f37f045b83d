import { appendFile, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { buildProgram } from '../src/cli/program.ts'
import { EXIT_CODES } from '../src/errors.ts'
import { Cluster } from './lab/cluster.ts'
import { pgrecall } from './lab/product.ts'
import { requireServer } from './lab/programs.ts'
import { Scratch } from './lab/scratch.ts'

const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8')

/** The first code block after a marker, without comments. */
function commandsAfter(marker: string): string[] {
  const block = /```sh\n([\s\S]*?)```/.exec(readme.slice(readme.indexOf(marker)))?.[1] ?? ''
  return block
    .split('\n')
    .map((line) => line.replace(/\s+#.*$/, '').trim())
    .filter((line) => line !== '')
}

test('the README has the exit codes of the program', () => {
  const section = readme.slice(readme.indexOf('<!-- exit codes'), readme.indexOf('## Develop'))
  const rows = [...section.matchAll(/^\| (\d+) \| (.*) \|$/gm)].map(([, code, meaning]) => [
    Number(code),
    meaning,
  ])
  const table = Object.values(EXIT_CODES).map(({ code, meaning }) => [code, meaning])
  expect(rows).toEqual([[0, 'done'], ...table])
})

test('every command and option that the README names exists', () => {
  const program = buildProgram('0', async () => {})
  const commands = new Map(program.commands.map((command) => [command.name(), command]))
  const global = program.options.map((option) => option.long)
  const code = [...readme.matchAll(/```[a-z]*\n([\s\S]*?)```|`([^`\n]+)`/g)]
    .map((match) => match[1] ?? match[2])
    .join('\n')
  const calls = [...code.matchAll(/pgrecall ([a-z][a-z-]+)((?: +(?:--?[a-z][a-z-]*|"[^"]*"|[\w/.-]+))*)/g)]
  expect(calls.length).toBeGreaterThan(8)
  for (const [, name, rest] of calls) {
    if (name === 'help') continue
    const command = commands.get(name!)
    if (!command) throw new Error(`the README names the command "${name}", which is not there`)
    const known = [...command.options.map((option) => option.long), ...global]
    for (const [option] of rest!.matchAll(/--[a-z][a-z-]*/g)) expect(known).toContain(option)
  }
})

test('the commands of the README run as they stand', { timeout: 120_000 }, async (context) => {
  requireServer(context)
  await using scratch = await Scratch.create()
  await using cluster = await Cluster.create({ within: scratch })
  const home = await scratch.folder('home')
  const repository = join(scratch.path, 'repository')
  const env = { PGHOST: cluster.host, PGPORT: String(cluster.port) }
  const commands = commandsAfter('<!-- tour')
  expect(commands.map((command) => command.split(' ')[1])).toEqual([
    'init',
    'check',
    'backup',
    'list',
    'retention',
  ])

  for (const command of commands) {
    const args = command.replace('/var/lib/pgrecall', repository).split(/\s+/).slice(1)
    const { exitCode, stdout, stderr } = await pgrecall(args, { home, env })
    expect({ command, exitCode, stderr }).toEqual({ command, exitCode: 0, stderr: expect.any(String) })
    if (args[0] !== 'init') continue
    const lines = stdout.split('\n').filter((line) => /^ {2}\w+ = /.test(line))
    expect(lines.map((line) => line.trim().split(' ')[0])).toContain('archive_command')
    await cluster.stop()
    await appendFile(join(cluster.dataDirectory, 'postgresql.conf'), `\n${lines.join('\n')}\n`)
    await cluster.start()
  }
})
