import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Ending, factsOf } from '../../src/notices/facts.ts'
import { jsonForNotice, type Notice, nameOfNotice, sendNotice } from '../../src/notices/send-notice.ts'
import { timeLimit } from '../../src/notices/time-limit.ts'
import { Scratch } from '../lab/scratch.ts'
import { Receiver } from './receiver.ts'

const BEGINNING = {
  run: '1',
  operation: 'backup',
  cluster: 'main',
  repositories: ['local'],
  host: 'db1',
  pgrecall: '1.0',
  startedAt: new Date(0),
}
const ENDING: Ending = {
  finishedAt: new Date(1000),
  exitCode: 0,
  error: null,
  warnings: [],
  result: { id: 'a' },
}
const FACTS = factsOf(BEGINNING, ENDING)

let receiver: Receiver
beforeEach(async () => {
  receiver = await Receiver.create()
})
afterEach(() => receiver[Symbol.asyncDispose]())

const noticeTo = (path: string, changes: Partial<Notice> = {}): Notice => ({
  url: `http://${receiver.host}${path}`,
  on: ['after'],
  operations: ['backup'],
  timeoutMs: 20_000,
  ...changes,
})
async function send(notice: Notice, env = {}, stop = new AbortController().signal) {
  using limit = timeLimit(notice.timeoutMs, stop, 'short')
  return (await sendNotice(notice, JSON.stringify(FACTS), env, limit)).failure
}

test('the facts arrive as JSON, a login as a header', async () => {
  const url = `http://me:s%20cret@${receiver.host}/hook?token=s3cret`
  expect(await send(noticeTo('', { url }))).toBeUndefined()
  expect(receiver.received).toMatchObject([
    {
      url: '/hook?token=s3cret',
      headers: {
        'content-type': 'application/json',
        authorization: `Basic ${Buffer.from('me:s cret').toString('base64')}`,
      },
      facts: FACTS,
    },
  ])
})

test('the address may be in a file or in a variable, and only its host is told', async () => {
  await using scratch = await Scratch.create('notice')
  const urlFile = await scratch.file('url', `http://${receiver.host}/s3cret\n`)
  const env = { HOOK: `http://${receiver.host}/s3cret` }
  for (const place of [{ urlFile }, { urlVariable: 'HOOK' }]) {
    const notice = noticeTo('', { url: undefined, ...place })
    expect(await send(notice, env)).toBeUndefined()
    expect(nameOfNotice(notice, env)).toBe(`the notice to ${receiver.host}`)
  }
  expect(receiver.received.map(({ url }) => url)).toEqual(['/s3cret', '/s3cret'])

  const wrong = await scratch.file('wrong', 's3cret\n')
  const told = [
    await send(noticeTo('', { url: undefined, urlFile: wrong })),
    await send(noticeTo('', { url: undefined, urlFile: `${wrong}.not` })),
    await send(noticeTo('', { url: undefined, urlVariable: 'NONE' })),
  ]
  expect(told).toEqual([
    'has no address: what stands there is no URL that begins with https:// or http://',
    'has no address: the file cannot be read (ENOENT)',
    'has no address: there is none',
  ])
})

test('what may be over soon is tried again, what stays is not', async () => {
  const codes = [500, 200]
  receiver.answer = (response) => void response.writeHead(codes.shift() ?? 404).end()
  expect(await send(noticeTo('/'))).toBeUndefined()
  expect(receiver.received).toHaveLength(2)
  expect(await send(noticeTo('/'))).toBe('was answered with 404')
  expect(receiver.received).toHaveLength(3)
})

test('a redirect is not followed', async () => {
  await using other = await Receiver.create()
  receiver.answer = (response) => void response.writeHead(307, { location: `http://${other.host}/` }).end()
  expect(await send(noticeTo('/'))).toBe('was answered with 307, a redirect, which is not followed')
  expect(other.received).toEqual([])
})

test('a receiver that is slow, or not there, costs no more than the time limit', async () => {
  receiver.answer = () => {}
  expect(await send(noticeTo('/', { timeoutMs: 300 }))).toBe('took longer than 0.3 s and was ended')
  expect(receiver.received).toHaveLength(1)
  const gone = await Receiver.create()
  const url = `http://${gone.host}/s3cret`
  await gone[Symbol.asyncDispose]()
  // Nor is there the time for a second try.
  expect(await send(noticeTo('', { url, timeoutMs: 900 }))).toBe('got no answer (ECONNREFUSED)')
})

test('a result that is too large is left out, and nothing else', () => {
  const ofSize = (size: number) => factsOf(BEGINNING, { ...ENDING, result: 'x'.repeat(size) })
  expect(JSON.parse(jsonForNotice(ofSize(100_000), JSON.stringify))).toEqual(ofSize(100_000))
  expect(JSON.parse(jsonForNotice(ofSize(200_000), JSON.stringify))).toEqual({ ...ofSize(0), result: null })
})

test('facts say in a sentence what happened', () => {
  const text = (ending: Partial<Ending> | undefined) =>
    factsOf(BEGINNING, ending && { ...ENDING, ...ending }).text
  const what = 'pgrecall backup of cluster "main" on db1'
  expect(text(undefined)).toBe(`${what} begins`)
  expect(text({})).toBe(`${what} succeeded`)
  expect(text({ warnings: ['a', 'b'] })).toBe(`${what} succeeded, with warnings: a; b`)
  expect(text({ exitCode: 13, warnings: ['a'] })).toBe(`${what} ended with exit code 13: a`)
  expect(text({ exitCode: 6, error: { kind: 'busy', message: 'no', hint: null } })).toBe(
    `${what} failed with exit code 6: no`,
  )
  expect(factsOf(BEGINNING, { ...ENDING, exitCode: 13 }).outcome).toBe('failure')
  expect(factsOf(BEGINNING, { ...ENDING, warnings: ['a'] }).outcome).toBe('warning')
})
