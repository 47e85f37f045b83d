import { execFileSync } from 'node:child_process'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { claimIdentity } from '../../src/catalog/identity.ts'
import { EXIT_CODES } from '../../src/errors.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import {
  increment,
  logicalRecord,
  range,
  recordOf,
  SEGMENT,
  storeBackup,
  storeLogical,
  storeWal,
  summary,
} from '../catalog/stored.ts'
import { makeRepository } from '../lab/lab-repository.ts'
import { pgrecall } from '../lab/product.ts'
import { Scratch } from '../lab/scratch.ts'
import { labUser } from '../lab/user.ts'

/** The configuration has two clusters, whose servers are down, and of one of them nothing is stored. */
let scratch: Scratch
let config: string
let output: string

beforeAll(async () => {
  scratch = await Scratch.create('report')
  const path = join(scratch.path, 'repository')
  await makeRepository(path)
  const storage = new LocalStorage(path)
  await claimIdentity(storage, 'main', { systemIdentifier: '7400000000000000001', walSegmentBytes: SEGMENT })
  const full = summary('20261101T120000Z-full', { first: 10, label: 'first & <last>' })
  await storeBackup(storage, recordOf(full))
  await storeBackup(storage, recordOf(increment('20261102T120000Z-incr', full, { first: 20 })))
  await storeLogical(storage, logicalRecord('20261102T130000Z-logical'))
  await storeWal(storage, range(10, 15))
  await storeWal(storage, range(18, 25))
  if (labUser) execFileSync('chown', ['-R', `${labUser.uid}:${labUser.gid}`, path])
  const connection = { host: scratch.path, port: 54_321 }
  const cluster = { connection, repositories: ['local'], retention: { full: 1 }, timeZone: 'Asia/Kolkata' }
  const content = {
    repositories: { local: { type: 'local', path } },
    clusters: { main: cluster, spare: cluster },
  }
  config = await scratch.file('config.yaml', JSON.stringify(content))
  output = join(await scratch.folder('out'), 'report.html')
})
afterAll(() => scratch[Symbol.asyncDispose]())

const report = (...args: string[]) => pgrecall(['--config', config, 'report', ...args])

test('report writes one page about all clusters, for its owner only', async () => {
  const { exitCode, stdout, stderr } = await report('--output', output)
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' })
  expect(stdout).toMatch(/^Wrote .*report\.html/)
  expect(stdout).toMatch(/Cluster "main": any moment from 2026-11-02T.* can be recovered/)
  expect(stdout).toMatch(/Cluster "spare": nothing can be recovered/)
  expect((await stat(output)).mode & 0o777).toBe(0o600)
  expect(await readdir(join(output, '..'))).toEqual(['report.html'])
  const page = await readFile(output, 'utf8')
  for (const told of ['20261101T120000Z-full', '20261102T130000Z-logical', 'first &#38; &#60;last&#62;'])
    expect(page.includes(told), told).toBe(true)
  // 12:00:30 UTC, as the cluster's time zone has it.
  expect(page.includes('2026-11-01 17:30</time>')).toBe(true)
  // What status and check have to say stands in it.
  expect(page.includes('the server cannot be asked')).toBe(true)
  expect(/connection<\/span> [^<]*cannot connect/.test(page)).toBe(true)
})

test('it replaces its own page, and nothing else unless it is told to', async () => {
  const { stdout } = await report('--output', output, '--cluster', 'main', '--json')
  const wrong = expect.arrayContaining([expect.objectContaining({ severity: 'fail', subject: 'connection' })])
  expect(JSON.parse(stdout)).toMatchObject({
    file: output,
    clusters: [{ cluster: 'main', recoverable: 'moments', repository: 'local', wrong }],
  })
  expect((await readFile(output, 'utf8')).includes('Cluster spare')).toBe(false)
  const notes = await scratch.file('notes.html', '<!doctype html>\n<title>mine</title>\n')
  const refused = await report('--output', notes)
  expect(refused.exitCode).toBe(EXIT_CODES.refused.code)
  expect(refused.stderr).toMatch(/is there already, and is not a report of pgrecall\nhint: .*--force/)
  expect(await readFile(notes, 'utf8')).toContain('mine')
  expect(await report('--output', notes, '--force', '--cluster', 'main')).toMatchObject({ exitCode: 0 })
  expect(await readFile(notes, 'utf8')).toContain('What can be recovered')
  const folder = await report('--output', scratch.path, '--force')
  expect(folder).toMatchObject({
    exitCode: EXIT_CODES.usage.code,
    stderr: expect.stringContaining('cannot write'),
  })
})

test('"-" is stdout, also where nothing is wanted for people', async () => {
  const { stdout } = await report('--output', '-', '--quiet', '--cluster', 'main')
  expect(/^<!doctype html>[\s\S]*<\/html>$/.test(stdout)).toBe(true)
  expect((await report('--output', '-', '--json')).exitCode).toBe(EXIT_CODES.usage.code)
})

test('list --timeline draws it in the terminal, without characters that the locale has not', async () => {
  const list = async (env: Record<string, string>) =>
    (await pgrecall(['--config', config, 'list', '--timeline', '--cluster', 'main'], { env })).stdout
  const plain = await list({ LC_ALL: 'C' })
  expect(plain).toMatch(/^Timeline 1 {2}=+%=+$/m)
  expect(plain).toMatch(/^ {12}F +i$/m)
  expect(plain).toMatch(/^logical {5} +L$/m)
  expect(plain).toMatch(/^[\n -~]*$/)
  expect(await list({ LC_ALL: 'C.UTF-8' })).toMatch(/^Timeline 1 {2}█+▒█+$/m)
})
