import { spawnSync } from 'node:child_process'
import { createServer } from 'node:net'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { connectionFor, usesSocketInTmp } from '../../src/config/connection.ts'
import { defaultConfig, findLocalServers, homeOf } from '../../src/config/defaults.ts'
import { Scratch } from '../lab/scratch.ts'

const me = userInfo().username
const server = (port: number) => ({ host: '/var/run/postgresql', port, uid: 26 })

let scratch: Scratch
beforeAll(async () => {
  scratch = await Scratch.create('connection')
})
afterAll(() => scratch[Symbol.asyncDispose]())

test.each<[string, Parameters<typeof usesSocketInTmp>[0], Record<string, string>, string, boolean]>([
  ['the only server on the host has it there', {}, {}, '/tmp', true],
  ['the server on the host has it elsewhere', {}, {}, '/var/run/postgresql', false],
  ['the configuration says so', { host: '/tmp' }, {}, '/var/run/postgresql', true],
  ['the configuration names a host', { host: 'db' }, { PGHOST: '/tmp' }, '/tmp', false],
  ['the variable says so', {}, { PGHOST: '/tmp' }, '/var/run/postgresql', true],
  ['a URI says so behind it', 'postgresql:///shop?user=a&host=/tmp', {}, '', true],
  ['a URI says so in front', 'postgresql://backup@%2Ftmp/shop', {}, '', true],
  ['a database has that name', 'postgresql://backup@db/tmp', {}, '/tmp', false],
])('whether the socket is in /tmp: %s', (_what, configured, env, host, expected) => {
  expect(usesSocketInTmp(configured, env, () => [{ host, port: 5432, uid: 26 }])).toBe(expected)
})

describe('the connection', () => {
  test('is the one server that runs here, as the user who runs this, when nothing is said', () => {
    expect(connectionFor({}, {}, () => [server(5433)])).toEqual({
      host: '/var/run/postgresql',
      port: 5433,
      user: me,
      database: 'postgres',
    })
  })

  test('is the configuration first, then the variables of libpq', () => {
    const configured = { host: 'db', port: 5444, user: 'backup', database: 'admin', password: 'x' }
    const env = { PGHOST: 'other', PGPORT: '1', PGUSER: 'other', PGDATABASE: 'other' }
    expect(connectionFor(configured, env, () => expect.fail('not asked'))).toEqual(configured)
    expect(connectionFor({}, env, () => expect.fail('not asked'))).toMatchObject({
      host: 'other',
      port: 1,
      user: 'other',
      database: 'other',
    })
    expect(() => connectionFor({}, { PGPORT: 'abc' }, () => [])).toThrow('PGPORT is "abc", which is no port')
  })

  test('is a URI as it is', () => {
    const uri = 'postgresql://u@h/db'
    expect(connectionFor(uri, { PGHOST: 'x' }, () => expect.fail('not asked'))).toEqual({ uri })
  })

  test('is the server at the port that is said, where several run', () => {
    const servers = () => [server(5432), server(5433)]
    expect(connectionFor({ port: 5433 }, {}, servers)).toMatchObject({ port: 5433 })
    expect(connectionFor({}, { PGPORT: '5432' }, servers)).toMatchObject({ port: 5432 })
    expect(() => connectionFor({}, {}, servers)).toThrow(
      'several servers run on this host: port 5432 in /var/run/postgresql, port 5433 in /var/run/postgresql',
    )
  })

  test('is localhost where no server is found', () => {
    expect(connectionFor({ port: 5440 }, {}, () => [])).toMatchObject({ host: 'localhost', port: 5440 })
  })

  test('has the password of its file, without the line end and nothing else taken away', async () => {
    const passwordFile = await scratch.file('password', ' s3cret \r\n')
    expect(connectionFor({ passwordFile }, {}, () => [])).toMatchObject({ password: ' s3cret ' })
    expect(connectionFor({ passwordFile }, {}, () => [])).not.toHaveProperty('passwordFile')
  })

  test('without its password file is a mistake that names it', () => {
    expect(() => connectionFor({ passwordFile: '/nowhere/x' }, {}, () => [])).toThrow(
      'cannot read the password file /nowhere/x',
    )
  })

  test('can be had by a user without a name, as in a container', () => {
    if (process.getuid?.() !== 0) return
    const source = fileURLToPath(new URL('../../src/config/connection.ts', import.meta.url))
    const script = `
      const { connectionFor } = await import(${JSON.stringify(source)})
      process.setuid(1000660000)
      console.log(JSON.stringify(connectionFor({ user: 'postgres' }, {}, () => [])))
      try { connectionFor({}, {}, () => []) } catch (error) { console.log(JSON.stringify({ ...error, message: error.message })) }`
    const run = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' })
    expect(run.stderr).toBe('')
    const [named, unnamed] = run.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown)
    expect(named).toMatchObject({ user: 'postgres' })
    expect(unnamed).toMatchObject({
      kind: 'config',
      message: expect.stringContaining('1000660000'),
      hint: expect.stringContaining('PGUSER'),
    })
  })
})

describe('without a configuration', () => {
  test('there is one cluster and one repository, in the data folder of the user', () => {
    expect(defaultConfig({}, '/home/me')).toMatchObject({
      repositories: { local: { type: 'local', path: '/home/me/.local/share/pgrecall' } },
      clusters: { main: { repositories: [{ name: 'local', required: true }], retention: {} } },
    })
    expect(defaultConfig({ XDG_DATA_HOME: '/data' }, '/home/me').repositories.local).toMatchObject({
      path: '/data/pgrecall',
    })
  })

  test('servers are found by their sockets', async () => {
    const folder = await scratch.folder('sockets')
    await scratch.file('sockets/.s.PGSQL.5432.lock', '')
    await scratch.file('sockets/other', '')
    const listening = createServer()
    await new Promise<void>((resolve) => listening.listen(join(folder, '.s.PGSQL.5499'), resolve))
    try {
      const uid = process.getuid?.()
      expect(findLocalServers(['/nowhere', folder])).toEqual([{ host: folder, port: 5499, uid }])
    } finally {
      listening.close()
    }
  })

  test("a user's home is in the password file", () => {
    expect(homeOf(0)).toBe('/root')
    expect(homeOf(4_000_000_000)).toBeUndefined()
  })
})
