import { expect, test } from 'vitest'
import { programRunner } from '../../src/snapshot/run.ts'

const run = programRunner()

test('arguments arrive as they are, and the environment is ours', async () => {
  const odd = ['a b', `"quoted" 'twice'`, '$HOME; rm', 'Größe', '']
  const { stdout } = await run(['sh', '-c', 'for a do printf "[%s]" "$a"; done; echo; env', 'sh', ...odd])
  expect(stdout).toContain(odd.map((word) => `[${word}]`).join(''))
  const names = [...stdout.matchAll(/^(\w+)=/gm)].map(([, name]) => name)
  // A shell adds some of its own.
  expect(names.filter((name) => !['PWD', 'SHLVL', '_', 'OLDPWD'].includes(name!)).toSorted()).toEqual([
    'HOME',
    'LC_ALL',
    'PATH',
  ])
  expect(stdout).toContain('LC_ALL=C')
})

test('a failure is told with the last words of the program', async () => {
  const script = 'for i in 1 2 3 4 5; do echo "  line $i" >&2; done; exit 5'
  await expect(run(['sh', '-c', script])).rejects.toMatchObject({
    kind: 'failed',
    message: `"sh -c ${script}" failed with exit code 5: line 3; line 4; line 5`,
    hint: 'docs/snapshots.md says what the provider needs',
  })
  await expect(run(['sh', '-c', 'kill -KILL $$'])).rejects.toThrow('was ended by SIGKILL')
})

test('missing rights are told with the way to them', async () => {
  await expect(run(['sh', '-c', 'echo "sudo: a password is required" >&2; exit 1'])).rejects.toMatchObject({
    hint: expect.stringContaining('it needs more rights'),
  })
})

test('a program that is not there is a refusal', async () => {
  await expect(run(['no-such-program'])).rejects.toMatchObject({ kind: 'refused' })
})

test('nothing is started after an abort', async () => {
  const signal = AbortSignal.abort(new Error('stopped by a person'))
  await expect(run(['no-such-program'], { signal })).rejects.toThrow('stopped by a person')
})
