import { expect, test } from 'vitest'
import { refuseOwnOptions } from '../../src/postgres/dump-options.ts'
import { failure } from './dump-lab.ts'

const errorOf = (program: 'pg_dump' | 'pg_dumpall', option: string) => {
  try {
    refuseOwnOptions(program, [option])
  } catch (error) {
    return error
  }
}

test.each([
  '--file=/tmp/x',
  '--fil=x',
  '-f/tmp/x',
  '-Of/tmp/x',
  '-Fd',
  '--format=d',
  '--snapshot=1',
  '-dother',
  '--dbname=other',
  '-j4',
  '-Z9',
  '-ELATIN1',
  '--encoding=LATIN1',
  '-W',
  '--help',
  '-V',
])('%s is not passed to pg_dump', (option) => {
  expect(errorOf('pg_dump', option)).toMatchObject(failure('usage', /pgrecall sets it itself/))
})

test.each(['sales', '--', '-', '', '---'])('"%s" is not an option', (option) => {
  expect(errorOf('pg_dump', option)).toMatchObject(failure('usage', /is not an option/, /--schema=sales/))
})

test.each(['--no-owner', '-nfF', '-Ox', '--role=me', '--filter=x', '--inserts', '--enable-row-security'])(
  '%s is passed to pg_dump',
  (option) => {
    expect(errorOf('pg_dump', option)).toBeUndefined()
  },
)

test('pg_dumpall has letters of its own', () => {
  expect(errorOf('pg_dumpall', '-lother')).toMatchObject(failure('usage', /pgrecall sets it itself/))
  expect(errorOf('pg_dumpall', '-tf')).toMatchObject(failure('usage', /pgrecall sets it itself/))
  expect(errorOf('pg_dump', '-tf')).toBeUndefined()
})
