import { expect, test } from 'vitest'
import { type Configuration, openCluster, takeStatus } from '../../src/index.ts'

const config: Configuration = {
  repositories: { local: { path: '/nowhere' }, other: { path: '/elsewhere' } },
  clusters: { main: { repositories: ['local'] }, second: { repositories: ['local'] } },
}

test('a cluster is opened by its name, of a configuration that is a value', async () => {
  expect(await openCluster({ config, cluster: 'main' })).toEqual({
    name: 'main',
    repositories: ['local'],
    configFile: undefined,
  })
  const chosen = await openCluster({ config, cluster: 'second', repository: 'other' })
  expect(chosen.repositories).toEqual(['other'])
})

test.each<[string, Parameters<typeof openCluster>[0], string, RegExp]>([
  ['which cluster', { config }, 'config', /2 clusters/],
  ['a cluster that is not there', { config, cluster: 'third' }, 'config', /no cluster "third"/],
  ['two configurations', { config, configFile: 'x.yaml' }, 'usage', /either a value or a file/],
  ['no such file', { configFile: '/nowhere/x.yaml' }, 'config', /there is no configuration file/],
  ['what the environment names', { env: { PGRECALL_CONFIG: '/nowhere/y.yaml' } }, 'config', /y\.yaml/],
  [
    'a mistake in a value',
    { config: { ...config, clusters: { main: { repositories: ['local'], backup: { jobs: 0 } } } } },
    'config',
    /^the configuration: .*jobs/,
  ],
])('it is said what is wrong: %s', async (_what, options, kind, message) => {
  await expect(openCluster(options)).rejects.toMatchObject({ kind, message: expect.stringMatching(message) })
})

test('what was told to stop does not begin, and a made-up handle is refused', async () => {
  const stop = new AbortController()
  const cluster = await openCluster({ config, cluster: 'main', signal: stop.signal })
  const reason = new Error('enough')
  stop.abort(reason)
  await expect(takeStatus(cluster)).rejects.toBe(reason)
  await expect(takeStatus({ ...cluster })).rejects.toMatchObject({ kind: 'usage' })
})

test('the process is left alone', async () => {
  const listeners = () => process.eventNames().map((name) => [name, process.listenerCount(name)])
  const before = listeners()
  const nobody = { host: '/nowhere', port: 1, user: 'nobody' }
  const cluster = await openCluster({
    config: { ...config, clusters: { main: { repositories: ['local'], connection: nobody } } },
    env: {},
  })
  const { findings, repositories } = await takeStatus(cluster)
  const all = [...findings, ...repositories.flatMap((each) => each.findings)]
  expect(all.some(({ severity }) => severity === 'fail')).toBe(true)
  expect(listeners()).toEqual(before)
  expect(process.exitCode).toBeUndefined()
})
