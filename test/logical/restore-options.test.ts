import { expect, test } from 'vitest'
import { environmentOf, targetOf } from '../../src/commands/restore-logical-options.ts'

const OWN = { host: '/socket', port: 5433, user: 'postgres', password: 'secret', database: 'app' }

test('options name another server, and take no password there', () => {
  expect(targetOf(OWN, {})).toBe(OWN)
  expect(targetOf(OWN, { port: 5434 })).toEqual({
    host: '/socket',
    port: 5434,
    user: 'postgres',
    database: 'postgres',
  })
  expect(targetOf(OWN, { host: 'new' })).toEqual({ host: 'new', user: 'postgres', database: 'postgres' })
})

test('of a URI no part is changed: what is left out would be another server', () => {
  const own = { uri: 'postgres://app:secret@db.example.net:6000/app' }
  for (const options of [{ port: 5434 }, { username: 'x' }])
    expect(() => targetOf(own, options)).toThrow('a URI, of which no part can be changed')
  expect(targetOf(own, { host: 'new', username: 'x' })).toEqual({
    host: 'new',
    user: 'x',
    database: 'postgres',
  })
})

test('what the environment says of a host does not go before one that is named', () => {
  const env = { PATH: '/bin', PGHOSTADDR: '10.0.0.1', PGSERVICE: 'main' }
  expect(environmentOf(env, { host: 'new' })).toEqual({ PATH: '/bin' })
  expect(environmentOf(env, { port: 1 })).toBe(env)
})
