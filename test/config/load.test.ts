import { chmod, mkdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { configPaths, loadConfig, parseConfig } from '../../src/config/load.ts'
import { PgrecallError } from '../../src/errors.ts'
import { Scratch } from '../lab/scratch.ts'

const EXAMPLE = new URL('../../config.example.yaml', import.meta.url)
const FILE = '/etc/pgrecall/config.yaml'
const SMALL = `repositories:
  local:
    path: /var/lib/pgrecall
clusters:
  main:
    repositories: [local]
`

let scratch: Scratch
beforeAll(async () => {
  scratch = await Scratch.create('config')
})
afterAll(() => scratch[Symbol.asyncDispose]())

test('config.example.yaml is valid, and says what holds without it', async () => {
  const example = parseConfig(await readFile(EXAMPLE, 'utf8'), FILE)
  const small = parseConfig(SMALL, FILE)
  expect(example.clusters.main?.backup).toEqual(small.clusters.main?.backup)
  expect(example.clusters.main?.restore).toEqual(small.clusters.main?.restore)
  expect(example.log).toEqual(small.log)
})

test('config.example.yaml shows every key, in comments at least', async () => {
  const text = await readFile(EXAMPLE, 'utf8')
  const keys = [
    'type',
    'path',
    'dataDirectory',
    'connection',
    'host',
    'port',
    'user',
    'database',
    'passwordFile',
    'repositories',
    'method',
    'jobs',
    'compression',
    'checkpoint',
    'archiveTimeout',
    'full',
    'level',
    'file',
  ]
  for (const key of keys) expect(text, key).toMatch(new RegExp(`^\\s*(# )?${key}:`, 'm'))
})

test('spans of time are milliseconds, in units of PostgreSQL', () => {
  const text = inCluster('retention:', '  window: 36h', '  wal: 1.5d')
  const retention = parseConfig(text, FILE).clusters.main?.retention
  expect(retention).toEqual({ window: 36 * 3_600_000, wal: 36 * 3_600_000 })
})

test('what is left out has defaults', () => {
  expect(parseConfig(SMALL, FILE)).toEqual({
    repositories: { local: { type: 'local', path: '/var/lib/pgrecall' } },
    clusters: {
      main: {
        connection: {},
        repositories: [{ name: 'local', required: true }],
        backup: {
          method: 'files',
          type: 'auto',
          maxChain: 15,
          jobs: 2,
          compression: 'zstd:1',
          checkpoint: 'fast',
          archiveTimeout: 60,
          checksumFailures: 'warn',
        },
        wal: { batch: 128, jobs: 2, prefetch: 256 * 2 ** 20, receive: { slot: 'pgrecall', interval: 5 } },
        restore: { jobs: 2 },
        retention: {},
        status: {},
      },
    },
    log: { level: 'info' },
  })
})

/** The sentences that a text is refused with. */
function mistakes(text: string): string[] {
  try {
    parseConfig(text, FILE)
  } catch (error) {
    expect(error).toBeInstanceOf(PgrecallError)
    expect(error).toMatchObject({ kind: 'config', hint: expect.any(String) })
    return (error as Error).message.split('\n')
  }
  return []
}

/** The small configuration with lines in the cluster (and its line numbers from 7 on). */
const inCluster = (...lines: string[]) => `${SMALL}${lines.map((line) => `    ${line}\n`).join('')}`

describe('a mistake is told with file, line, key and mend', () => {
  test.each<[string, string, string]>([
    ['an empty file', '', `${FILE}: "repositories" is missing (a group of keys)`],
    ['a list', '- a\n', `${FILE}: the file must be a group of keys`],
    ['a text', 'hello', `${FILE}: the file must be a group of keys`],
    [
      'a misspelt key',
      `${SMALL}logg:\n  level: info\n`,
      `${FILE}:7: "logg" is not known; did you mean "log"?`,
    ],
    [
      'a misspelt key of a cluster',
      inCluster('retentoin:', '  full: 2'),
      `${FILE}:7: "clusters.main.retentoin" is not known; did you mean "retention"?`,
    ],
    [
      'a misspelt key of a group',
      inCluster('backup:', '  compresion: none'),
      `${FILE}:8: "clusters.main.backup.compresion" is not known; did you mean "compression"?`,
    ],
    [
      'a misspelt key without a value',
      inCluster('backup:', '  job:'),
      `${FILE}:8: "clusters.main.backup.job" is not known; did you mean "jobs"?`,
    ],
    [
      'a misspelt key of the log',
      `${SMALL}log:\n  leve: info\n`,
      `${FILE}:8: "log.leve" is not known; did you mean "level"?`,
    ],
    [
      'a misspelt key of a repository',
      SMALL.replace('path', 'paht'),
      `${FILE}:3: "repositories.local.paht" is not known; did you mean "path"?`,
    ],
    [
      'a misspelt key of a connection',
      inCluster('connection:', '  prot: 5432'),
      `${FILE}:8: "clusters.main.connection.prot" is not known; did you mean "port"?`,
    ],
    [
      'a key that resembles none',
      inCluster('bandwidth: 5'),
      `${FILE}:7: "clusters.main.bandwidth" is not known`,
    ],
    [
      'a missing key',
      SMALL.replace('    path: /var/lib/pgrecall\n', '    type: local\n'),
      `${FILE}:2: "repositories.local.path" is missing (a text)`,
    ],
    [
      'a relative path',
      SMALL.replace('/var/lib', 'lib'),
      `${FILE}:3: "repositories.local.path" must be an absolute path`,
    ],
    [
      'another type',
      SMALL.replace('path:', 'type: ftp\n    path:'),
      `${FILE}:3: "repositories.local.type" must be "local" or "s3"`,
    ],
    [
      'a text instead of a number',
      inCluster('backup:', '  jobs: many'),
      `${FILE}:8: "clusters.main.backup.jobs" must be a number`,
    ],
    [
      'a fraction',
      inCluster('backup:', '  jobs: 1.5'),
      `${FILE}:8: "clusters.main.backup.jobs" must be a whole number`,
    ],
    [
      'a number that is too small',
      inCluster('backup:', '  jobs: 0'),
      `${FILE}:8: "clusters.main.backup.jobs" must be at least 1`,
    ],
    [
      'a number that is too large',
      inCluster('backup: { jobs: 65 }'),
      `${FILE}:7: "clusters.main.backup.jobs" must be at most 64`,
    ],
    [
      'an unknown compression',
      inCluster('backup:', '  compression: lz4'),
      `${FILE}:8: "clusters.main.backup.compression" "lz4" is no compression; use zstd:N, gzip:N or none`,
    ],
    [
      'an impossible level',
      inCluster('backup:', '  compression: zstd:99'),
      `${FILE}:8: "clusters.main.backup.compression" the level of zstd goes from 1 to 19, not 99`,
    ],
    [
      'another word of a choice',
      inCluster('backup:', '  checkpoint: slow'),
      `${FILE}:8: "clusters.main.backup.checkpoint" must be "fast" or "spread"`,
    ],
    [
      'a retention of nothing',
      inCluster('retention:', '  full: 0'),
      `${FILE}:8: "clusters.main.retention.full" must keep at least one backup`,
    ],
    [
      'a time without a unit',
      inCluster('retention:', '  window: 7'),
      `${FILE}:8: "clusters.main.retention.window" must be a time such as "7d", "36h" or "90min"`,
    ],
    [
      'a number within a number that is not there',
      inCluster('retention:', '  incr: 7'),
      `${FILE}:8: "clusters.main.retention.incr" counts within what "full" keeps, and so needs "full"`,
    ],
    [
      'WAL for less time than the window',
      inCluster('retention:', '  window: 2d', '  wal: 47h'),
      `${FILE}:9: "clusters.main.retention.wal" must not be shorter than "window", which needs the WAL of all its time`,
    ],
    [
      'a misspelt rule',
      inCluster('retention:', '  montly: 12'),
      `${FILE}:8: "clusters.main.retention.montly" is not known; did you mean "monthly"?`,
    ],
    [
      'a time zone that is none',
      inCluster('timeZone: Middle-earth/Shire'),
      `${FILE}:7: "clusters.main.timeZone" must be a time zone such as Europe/Berlin`,
    ],
    [
      'no repository',
      SMALL.replace('[local]', '[]'),
      `${FILE}:6: "clusters.main.repositories" must name at least one repository`,
    ],
    [
      'a repository that is not there',
      SMALL.replace('[local]', '[local, offsite]'),
      `${FILE}:6: "clusters.main.repositories.1" names the repository "offsite", which is not under "repositories" (there: local)`,
    ],
    [
      'a text instead of a list',
      SMALL.replace('[local]', 'local'),
      `${FILE}:6: "clusters.main.repositories" must be a list`,
    ],
    [
      'an impossible name',
      SMALL.replace('main:', 'my cluster:'),
      `${FILE}:5: "clusters.my cluster" is not a possible name: must be letters, digits, "-" and "_", at most 63`,
    ],
    [
      'a port that is a text',
      inCluster('connection:', '  port: "5432"'),
      `${FILE}:8: "clusters.main.connection.port" must be a number`,
    ],
    [
      'a password that is a number',
      inCluster('connection:', '  password: 1234'),
      `${FILE}:8: "clusters.main.connection.password" must be a text`,
    ],
    [
      'a connection that is no URI',
      inCluster('connection: localhost:5432'),
      `${FILE}:7: "clusters.main.connection" must be a URI such as postgresql://user@host:5432/postgres`,
    ],
    [
      'a connection that is a number',
      inCluster('connection: 5432'),
      `${FILE}:7: "clusters.main.connection" must be a text or a group of keys`,
    ],
    [
      'an alias without an anchor',
      inCluster('backup: *defaults'),
      `${FILE}:7: Unresolved alias (the anchor must be set before the alias): defaults`,
    ],
    ['a key that stands there twice', `${SMALL}clusters: {}\n`, `${FILE}:7:1: Map keys must be unique`],
  ])('%s', (_what, text, sentence) => {
    expect(mistakes(text)).toContain(sentence)
  })

  test('YAML that cannot be read is told with its line and column', () => {
    expect(mistakes('repositories:\n  local: {path: /x\nclusters: {}\n')[0]).toMatch(
      /^\/etc\/pgrecall\/config.yaml:\d+:\d+: /,
    )
    expect(mistakes('repositories:\n\tlocal: 1\n')[0]).toMatch(/^\/etc\/pgrecall\/config.yaml:2:1: /)
  })

  test('all of them are told at once, one to a line', () => {
    const text = inCluster('backup:', '  jobs: 0', '  compresion: none', 'retention: { full: none }')
    expect(mistakes(text)).toEqual([
      `${FILE}:8: "clusters.main.backup.jobs" must be at least 1`,
      `${FILE}:9: "clusters.main.backup.compresion" is not known; did you mean "compression"?`,
      `${FILE}:10: "clusters.main.retention.full" must be a number`,
    ])
  })

  test('no sentence repeats a value that may be a secret', () => {
    const text = inCluster('connection:', '  password: [s3cret]', '  passwort: s3cret')
    expect(mistakes(text).join()).not.toContain('s3cret')
    expect(mistakes(inCluster('connection: "pg://u:s3cret@h"')).join()).not.toContain('s3cret')
  })
})

describe('the file is looked for', () => {
  const at = async (name: string, text = SMALL) => {
    const path = join(scratch.path, name)
    await mkdir(dirname(path), { recursive: true })
    return scratch.file(name, text)
  }

  test('first where --config says, then where PGRECALL_CONFIG says, then in the home', async () => {
    const named = await at('named.yaml')
    const variable = await at('variable.yaml')
    const inHome = await at('home/.config/pgrecall/config.yaml')
    const xdg = await at('xdg/pgrecall/config.yaml')
    const home = join(scratch.path, 'home')
    const env = { PGRECALL_CONFIG: variable, XDG_CONFIG_HOME: join(scratch.path, 'xdg') }
    const file = (option: string | undefined, variables: Record<string, string>) =>
      loadConfig(option, { env: variables, home, cwd: scratch.path })?.file
    expect(file(named, env)).toBe(named)
    expect(file('named.yaml', env)).toBe(named)
    expect(file(undefined, env)).toBe(variable)
    expect(file(undefined, { PGRECALL_CONFIG: 'variable.yaml' })).toBe(variable)
    expect(file(undefined, { ...env, PGRECALL_CONFIG: '' })).toBe(xdg)
    expect(file(undefined, {})).toBe(inHome)
  })

  test('and below /etc last', () => {
    expect(configPaths({ env: {}, home: '/home/me' })).toEqual([
      '/home/me/.config/pgrecall/config.yaml',
      '/etc/pgrecall/config.yaml',
    ])
  })

  test('a file that is named and not there is a mistake', () => {
    const surroundings = { env: {}, home: '/nowhere', cwd: scratch.path }
    expect(() => loadConfig('absent.yaml', surroundings)).toThrow(
      `there is no configuration file ${scratch.path}/absent.yaml`,
    )
    const env = { PGRECALL_CONFIG: '/nowhere/x.yaml' }
    expect(() => loadConfig(undefined, { ...surroundings, env })).toThrow('/nowhere/x.yaml')
  })

  test('what cannot be read is told', () => {
    expect(() => loadConfig(scratch.path, { env: {}, home: '/nowhere', cwd: '/' })).toThrow(
      `cannot read ${scratch.path}`,
    )
  })

  test.each([
    ['a password', 'connection:\n      password: x', true],
    ['a password in a group on one line', 'connection: { user: a, password: x }', true],
    ['a password with its key in quotes', 'connection:\n      "password": x', true],
    ['a password in a URI', 'connection: postgresql://u:s3cret@host/db', true],
    ['a password in the parameters of a URI', 'connection: postgresql://u@host/db?password=s3cret', true],
    ['a URI without a password', 'connection: postgresql://u@host:5432/db', false],
    ['a password in a file of its own', 'connection: { passwordFile: /etc/secret }', false],
    ['a password in a comment', 'connection: {} # password: x, postgresql://u:p@h', false],
  ])('%s warns or not when others can read it', async (_what, lines, warns) => {
    const file = await at(`secret-${Math.random()}.yaml`, `${SMALL}    ${lines}\n`)
    const warnings = () => loadConfig(file, { env: {}, home: '/nowhere', cwd: '/' })!.warnings
    expect(warnings()).toEqual([])
    for (const mode of [0o640, 0o604]) {
      await chmod(file, mode)
      expect(warnings()).toEqual(
        warns ? [`${file} holds a secret and can be read by others; run: chmod 600 ${file}`] : [],
      )
    }
  })
})
