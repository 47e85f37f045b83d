import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync } from 'node:fs'
import { chmod, chown, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { stringify } from 'yaml'
import type { NoticeFacts } from '../../src/notices/facts.ts'
import { makeRepository } from '../lab/lab-repository.ts'
import { poll } from '../lab/poll.ts'
import { pgrecall, type RunOptions, resultOf, startPgrecall } from '../lab/product.ts'
import { Scratch } from '../lab/scratch.ts'
import { labUser } from '../lab/user.ts'
import { Receiver } from './receiver.ts'

/** Operations that need no server: the catalog of an empty repository is made again, or a backup that is not there verified. */
const REBUILD = ['catalog', 'rebuild']
const VERIFY = ['verify', '20200101T000000Z-full']

const STOPPED = 'warning: the hook /bin/sh was ended, as pgrecall was told to stop'

let scratch: Scratch
beforeEach(async () => {
  scratch = await Scratch.create('hooks')
  await makeRepository(join(scratch.path, 'repository'))
})
afterEach(() => scratch[Symbol.asyncDispose]())

/** A hook that runs lines of shell, with the folder as `$1`. */
const shell = (lines: string, more: object = {}) => ({
  run: ['/bin/sh', '-c', lines, 'hook', scratch.path],
  ...more,
})

async function configure(sections: object, ofCluster: object = {}): Promise<string> {
  const repositories = { local: { path: join(scratch.path, 'repository') } }
  const clusters = { main: { repositories: ['local'], ...ofCluster } }
  const log = { level: 'trace', file: join(scratch.path, 'log') }
  return scratch.file('c.yaml', stringify({ repositories, clusters, log, ...sections }))
}

const run = async (args: string[], options: RunOptions = {}) =>
  pgrecall(['--config', join(scratch.path, 'c.yaml'), ...args], options)
const file = (name: string) => readFile(join(scratch.path, name), 'utf8')
/** Beside these, the terminal shows the whole log. */
const warningsIn = (stderr: string) => stderr.split('\n').filter((line) => line.startsWith('warning: '))
const factsIn = async (name: string) => JSON.parse(await file(name)) as NoticeFacts

test('hooks learn of the beginning and the end of an operation, and nothing of our secrets', async () => {
  await configure(
    { hooks: [shell('cat > "$1/before"; env > "$1/env"; echo "id=$(id -u)"', { on: ['before'] })] },
    {
      hooks: [
        shell('cat > "$1/after"; echo "$PGRECALL_OPERATION $PGRECALL_OUTCOME" > "$1/words"'),
        shell('touch "$1/never"', { on: ['failure', 'warning'] }),
        shell('touch "$1/never"', { operations: ['backup', 'restore'] }),
      ],
    },
  )
  const env = { PGPASSWORD: 's3cret', AWS_SECRET_ACCESS_KEY: 's3cret', LANG: 'C.UTF-8' }
  const { exitCode, stdout, stderr } = await run([...REBUILD, '--json'], { env })
  expect({ exitCode, warnings: warningsIn(stderr) }).toEqual({ exitCode: 0, warnings: [] })

  const [before, after] = [await factsIn('before'), await factsIn('after')]
  expect(before).toMatchObject({
    version: 1,
    event: 'before',
    operation: 'catalog rebuild',
    cluster: 'main',
    repositories: ['local'],
    finishedAt: null,
    outcome: null,
    exitCode: null,
    error: null,
    result: null,
  })
  expect(after).toMatchObject({
    run: before.run,
    event: 'after',
    startedAt: before.startedAt,
    outcome: 'success',
    exitCode: 0,
    error: null,
    result: JSON.parse(stdout),
  })
  expect(Date.parse(after.finishedAt!)).toBeGreaterThanOrEqual(Date.parse(after.startedAt))
  expect(await file('words')).toBe('catalog rebuild success\n')
  expect(existsSync(join(scratch.path, 'never'))).toBe(false)

  const passedOn = (await file('env')).split('\n').map((line) => line.split('=')[0])
  expect(passedOn).toEqual(expect.arrayContaining(['HOME', 'LANG', 'PATH', 'PGRECALL_EVENT']))
  expect(await file('env')).not.toContain('s3cret')
  expect(await file('log')).toContain(`id=${labUser?.uid ?? process.getuid!()}`)
})

test('what goes wrong in a hook is a warning, and changes neither the result nor the exit code', async () => {
  await configure({
    hooks: [
      shell('echo words of the hook; exit 3'),
      shell('kill -KILL $$'),
      { run: ['/nowhere/hook', 's3cret'] },
      { run: ['/bin/true', 's3cret\0'] },
      // It reads nothing, and what it leaves behind holds its output open.
      shell('sleep 30 & echo $! > "$1/left"; exit 0'),
      shell('touch "$1/last"'),
    ],
  })
  const { exitCode, stdout, stderr } = await run(REBUILD)
  process.kill(Number(await file('left')))
  expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: expect.stringContaining('local') })
  expect(warningsIn(stderr)).toEqual([
    expect.stringMatching(/the hook \/bin\/sh ended with exit code 3$/),
    expect.stringMatching(/the hook \/bin\/sh was ended by SIGKILL$/),
    expect.stringMatching(/the hook \/nowhere\/hook could not be started \(ENOENT\)$/),
    expect.stringMatching(/the hook \/bin\/true could not be started \(ERR_INVALID_ARG_VALUE\)$/),
  ])
  expect(existsSync(join(scratch.path, 'last'))).toBe(true)
  expect(await file('log')).toContain('words of the hook')

  await configure({ hooks: [shell('cat > "$1/failed"; exit 3', { on: ['failure'] })] })
  const failed = await run([...VERIFY, '--json'])
  const { error } = JSON.parse(failed.stdout)
  expect(failed.exitCode).toBe(1)
  expect(await factsIn('failed')).toMatchObject({ outcome: 'failure', exitCode: 1, error, result: null })
})

test('a hook that takes too long is ended, with all that it has started', async () => {
  const hang = 'trap "" TERM; (trap "" TERM; echo $$ > "$1/pid"; while :; do sleep 1; done)'
  await configure({ hooks: [shell(hang, { timeout: 1 })] })
  const { exitCode, stderr } = await run(REBUILD)
  expect(exitCode).toBe(0)
  expect(warningsIn(stderr)).toEqual(['warning: the hook /bin/sh took longer than 1 s and was ended'])
  await poll(async () => !isThere(await groupOf()), { what: 'the end of the group' })
})

test('told to stop while a hook hangs, it ends the hook, does nothing, and tells that it was stopped', async () => {
  await using receiver = await Receiver.create()
  await configure({
    hooks: [
      shell('echo $$ > "$1/pid"; sleep 600 & sleep 600', { on: ['before'], timeout: 600 }),
      shell('exec sleep 600', { on: ['failure'], timeout: 600 }),
    ],
    notices: [{ url: `http://${receiver.host}/`, on: ['after'] }],
  })
  const { process: running } = await startPgrecall(['--config', join(scratch.path, 'c.yaml'), ...REBUILD])
  await poll(groupOf, { what: 'the hook' })
  process.kill(running.pid!, 'SIGTERM')
  const { exitCode, stderr } = await resultOf(running)
  expect(exitCode).toBe(130)
  expect(stderr).toContain('stopped by SIGTERM')
  expect(warningsIn(stderr)).toEqual([STOPPED, STOPPED])
  expect(isThere(await groupOf())).toBe(false)
  expect(existsSync(join(scratch.path, 'repository/main/catalog.json'))).toBe(false)
  expect(receiver.received.map(({ facts }) => facts)).toMatchObject([
    { outcome: 'failure', exitCode: 130, error: { kind: 'interrupted' } },
  ])
})

test('told to stop while the end is told, it waits for a few seconds more, and its answer stays', async () => {
  await configure({ hooks: [shell('echo $$ > "$1/pid"; sleep 600', { timeout: 600 })] })
  const { process: running } = await startPgrecall(['--config', join(scratch.path, 'c.yaml'), ...REBUILD])
  await poll(groupOf, { what: 'the hook' })
  process.kill(running.pid!, 'SIGTERM')
  const { exitCode, stdout, stderr } = await resultOf(running)
  expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: expect.stringContaining('local') })
  expect(warningsIn(stderr)).toEqual([STOPPED])
  expect(isThere(await groupOf())).toBe(false)
})

test('notices go out while hooks run, their addresses to nobody', async () => {
  await using receiver = await Receiver.create()
  receiver.answer = (response, { url }) => void response.writeHead(url.includes('good') ? 200 : 404).end()
  const at = `http://${receiver.host}`
  const urlFile = await scratch.file('url', `${at}/in-file/s3cret\n`)
  await configure({
    hooks: [shell('while ! test -e "$1/go"; do sleep 0.1; done', { timeout: 60 })],
    notices: [
      { url: `${at}/good/s3cret`, on: ['success'] },
      { url: `${at}/bad/s3cret?s3cret`, on: ['before', 'after'] },
      { urlFile, on: ['failure'] },
    ],
  })
  const { process: running } = await startPgrecall(['--config', join(scratch.path, 'c.yaml'), ...REBUILD])
  await poll(() => receiver.received.length === 3, { what: 'the notices' })
  await scratch.file('go', '')
  const { exitCode, stdout, stderr } = await resultOf(running)
  expect(exitCode).toBe(0)
  expect(receiver.received.map(({ url }) => url).toSorted()).toEqual([
    '/bad/s3cret?s3cret',
    '/bad/s3cret?s3cret',
    '/good/s3cret',
  ])
  expect((await run(VERIFY)).exitCode).toBe(1)
  expect(receiver.received.at(-1)!.url).toMatch(/s3cret/)

  const tried = await run(['notify'])
  expect(tried.exitCode).toBe(12)
  expect(tried.stdout).toMatch(new RegExp(`pass +the notice to ${receiver.host}`))
  expect(tried.stdout).toMatch(new RegExp(`fail +the notice to ${receiver.host} +was answered with 404`))
  const wrong = await run(['notify', '--quiet', '--log-level', 'trace'])
  expect(wrong.stdout, 'a bad answer is said even so').toContain('fail')
  expect((await run(['list', '--quiet'])).stdout).toBe('')
  const everything = [stdout, stderr, tried.stdout, tried.stderr, wrong.stderr, await file('log')].join()
  expect(everything).toContain(receiver.host)
  expect(everything).not.toContain('s3cret')
})

test('a configuration that others can read with an address in it is warned of', async () => {
  const config = await configure({ notices: [{ url: 'https://hooks.example.net/s3cret' }] })
  await chmod(config, 0o644)
  const { exitCode, stderr } = await run(['list'])
  expect(exitCode).toBe(0)
  expect(stderr).toMatch(/c\.yaml holds a secret and can be read by others; run: chmod 600/)
})

test.skipIf(process.getuid!() !== 0)('root runs no hook that another user could have written', async () => {
  const config = await configure({ hooks: [shell('touch "$1/ran"')] })
  const consolidate = () => run(['consolidate'], { user: 'self', home: scratch.path })
  expect((await consolidate()).stderr).toContain(`no hook is run as root, since others than root can change`)
  expect(existsSync(join(scratch.path, 'ran'))).toBe(false)
  await chown(config, 0, 0)
  chmodSync(scratch.path, 0o755)
  expect((await consolidate()).stderr).not.toContain('as root')
  expect(existsSync(join(scratch.path, 'ran'))).toBe(true)
})

/** The process group that a hook has written down, which is the number of its first process. */
async function groupOf(): Promise<number | undefined> {
  return Number(await file('pid').catch(() => '')) || undefined
}

/** Whether a process of the group runs. What has ended may wait to be reaped by whoever is the first process here. */
function isThere(group: number | undefined): boolean {
  const { stdout } = spawnSync('ps', ['-A', '-o', 'pgid=,stat='], { encoding: 'utf8' })
  return stdout.split('\n').some((line) => new RegExp(`^ *${group} +[^Z]`).test(line))
}
