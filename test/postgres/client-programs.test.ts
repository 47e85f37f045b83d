import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { connectionArguments, findProgram, replicationArguments } from '../../src/postgres/client-programs.ts'
import { Scratch } from '../lab/scratch.ts'

describe('the place to connect to', () => {
  test.each([
    ['postgres://me:p@ss@db:5433/x', 'postgres://me@db:5433/x', 'p@ss'],
    ['postgresql://me:p%40ss@db:5433/x?sslmode=require', 'postgresql://me@db:5433/x?sslmode=require', 'p@ss'],
    ['postgres://me@db/x?password=p%26q&sslmode=require', 'postgres://me@db/x?sslmode=require', 'p&q'],
    ['postgresql://me:one@db?password=two', 'postgresql://me@db', 'two'],
    ['postgresql://db1:1,db2:2/x?sslpassword=key', 'postgresql://db1:1,db2:2/x', undefined],
    ['postgresql:///x?host=/var/run/postgresql', 'postgresql:///x?host=/var/run/postgresql', undefined],
  ])('%s is given without its secrets', (uri, plain, password) => {
    const { args, secrets } = connectionArguments({ uri })
    expect(args).toEqual([`--dbname=${plain}`])
    expect(secrets).toEqual(password === undefined ? {} : { PGPASSWORD: password })
  })

  test.each([
    ['postgres://me@db:5433/x', 'postgres://me@db:5433/a%20b'],
    ['postgres://db1:1,db2:2', 'postgres://db1:1,db2:2/a%20b'],
    ['postgresql:///x?host=/run&dbname=y&sslmode=require', 'postgresql:///a%20b?host=/run&sslmode=require'],
  ])('another database takes the place of that in %s', (uri, expected) => {
    expect(connectionArguments({ uri, database: 'a b' }).args).toEqual([`--dbname=${expected}`])
  })

  test('by its parts, the password goes by the environment', () => {
    const connection = { host: '/run', port: 5433, user: 'me', database: `it's\\`, password: 'secret' }
    expect(connectionArguments(connection)).toEqual({
      args: ['--host=/run', '--port=5433', '--username=me', String.raw`--dbname=dbname='it\'s\\'`],
      secrets: { PGPASSWORD: 'secret' },
    })
    expect(replicationArguments(connection).args).toEqual(['--host=/run', '--port=5433', '--username=me'])
  })
})

describe('a program', () => {
  test('is the one that is least newer, and never older', async () => {
    await using scratch = await Scratch.create()
    const [newest, fitting] = [await fakeProgram(scratch, 'a', 99), await fakeProgram(scratch, 'b', 97)]
    const env = { PATH: `${scratch.path}/a:${scratch.path}/b:/usr/bin:/bin` }
    expect(await findProgram('pg_dump', 97, env)).toEqual({ path: fitting, majorVersion: 97 })
    expect(await findProgram('pg_dump', 96, env)).toEqual({ path: fitting, majorVersion: 97 })
    expect(await findProgram('pg_dump', 98, env)).toEqual({ path: newest, majorVersion: 99 })
    expect(await findProgram('pg_dump', 100, env)).toBeUndefined()
  })
})

async function fakeProgram(scratch: Scratch, folder: string, major: number): Promise<string> {
  const path = join(scratch.path, folder, 'pg_dump')
  await mkdir(join(scratch.path, folder))
  await writeFile(path, `#!/bin/sh\necho "pg_dump (PostgreSQL) ${major}.1 (Debian ${major}.1-1)"\n`)
  await chmod(path, 0o755)
  return path
}
