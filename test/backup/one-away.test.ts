import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { Lab } from '../lab/lab.ts'
import { requireServer } from '../lab/programs.ts'
import { backUp } from './commands.ts'

let lab: Lab
let away: string

beforeAll(async () => {
  lab = await Lab.create({ repositories: { away: 'local', here: 'local' } })
  away = join(lab.scratch.path, 'repository-away')
  for (let count = 0; count < 2; count++) await backUp(lab)
})
beforeEach((context) => void requireServer(context))
afterAll(() => lab?.[Symbol.asyncDispose]())

/** Whether the repository that is away has to be there. */
const require = (required: boolean) =>
  lab.writeConfiguration(({ clusters }) => {
    clusters.main!.repositories = [{ name: 'away', required }, 'here']
  })

test.each([
  ['verify', true, 7],
  ['verify', false, 0],
  ['retention', true, 7],
  ['retention', false, 0],
])('%s goes on behind a repository that is away; required: %s', async (command, required, code) => {
  await require(required)
  const rule = command === 'retention' ? ['--full', '1'] : []
  await rename(away, `${away}.aside`)
  const { exitCode, stdout, stderr } = await lab.pgrecall([command, ...rule, '--json'])
  await rename(`${away}.aside`, away)
  expect(exitCode).toBe(code)
  expect(stderr).toContain('repository "away"')
  const [first, second] = JSON.parse(stdout)
  expect(first).toMatchObject({ repository: 'away', error: { kind: 'repository' } })
  expect(second).toMatchObject({ repository: 'here', backups: expect.any(Array) })
})
