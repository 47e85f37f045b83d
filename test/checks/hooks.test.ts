import { chmodSync } from 'node:fs'
import { expect, test } from 'vitest'
import { stringify } from 'yaml'
import { checkHooks } from '../../src/checks/hooks.ts'
import { pgrecall } from '../lab/product.ts'
import { Scratch } from '../lab/scratch.ts'

test('a hook whose program is not there, is no file or may not be run is warned of', async () => {
  await using scratch = await Scratch.create('hooks')
  const script = await scratch.file('script', '#!/bin/sh\n')
  chmodSync(script, 0o644)
  const hook = (program: string) => ({ run: [program, 'a secret'] })
  const findings = await checkHooks(
    ['/bin/sh', '/bin/sh', `${script}.gone`, scratch.path, script, '/bin/true'].map(hook),
  )
  expect(findings).toMatchObject([
    { verdict: 'pass', text: '/bin/sh; /bin/true' },
    { verdict: 'warn', text: `the program ${script}.gone of a hook is not there` },
    { verdict: 'warn', text: `the program ${scratch.path} of a hook is no file` },
    { verdict: 'warn', text: expect.stringContaining(`the program ${script} of a hook cannot be run: `) },
  ])
  expect(JSON.stringify(findings)).not.toContain('a secret')
  expect(await checkHooks([])).toEqual([])
})

test('check looks at the hooks of the whole configuration and of the cluster, also without a server', async () => {
  await using scratch = await Scratch.create('hooks')
  const config = {
    repositories: { local: { path: await scratch.folder('repository') } },
    hooks: [{ run: ['/not/there/a'] }],
    clusters: {
      main: {
        repositories: ['local'],
        connection: { host: scratch.path },
        hooks: [{ run: ['/not/there/b'] }],
      },
    },
  }
  const file = await scratch.file('config.yaml', stringify(config))
  const { stdout } = await pgrecall(['--config', file, '--json', 'check', '--read-only'])
  const findings: { subject: string; text: string }[] = JSON.parse(stdout)
  expect(findings.filter(({ subject }) => subject === 'hooks').map(({ text }) => text)).toEqual([
    'the program /not/there/a of a hook is not there',
    'the program /not/there/b of a hook is not there',
  ])
})
