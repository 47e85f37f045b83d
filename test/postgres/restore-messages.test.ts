import { expect, test } from 'vitest'
import { RestoreMessages } from '../../src/postgres/restore-messages.ts'

function outcomeOf(text: string) {
  const told: string[] = []
  const messages = new RestoreMessages((message) => told.push(message))
  for (const line of text.split('\n')) messages.push(line)
  return { ...messages.finish(), told }
}

const SETTING = `pg_restore: while INITIALIZING:
pg_restore: error: could not execute query: ERROR:  unrecognized configuration parameter "transaction_timeout"
Command was: SET transaction_timeout = 0;`

test('that an older server does not know a setting is no error', () => {
  const { errors, ignored, told } = outcomeOf(`${SETTING}
pg_restore: error: could not execute query: ERROR:  no
Command was: CREATE TABLE t ();
pg_restore: warning: errors ignored on restore: 2`)
  expect(errors.count).toBe(1)
  expect(ignored).toBe(1)
  expect(told).toHaveLength(1)
})

test('a number of errors counts only as the last word', () => {
  const { ignored, lastError } = outcomeOf(`pg_restore: warning: errors ignored on restore: 2
pg_restore: error: could not close the file`)
  expect(ignored).toBeUndefined()
  expect(lastError).toBe('could not close the file')
})
