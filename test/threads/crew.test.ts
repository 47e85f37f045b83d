import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Worker } from 'node:worker_threads'
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest'
import { PgrecallError } from '../../src/errors.ts'
import { type Carried, carry, unwrap } from '../../src/threads/carried-error.ts'
import { runCrew, workerScript } from '../../src/threads/crew.ts'
import { Scratch } from '../lab/scratch.ts'

let scratch: Scratch
let script: URL
beforeAll(async () => {
  scratch = await Scratch.create('crew')
  const path = await scratch.file(
    'worker.mjs',
    `import { parentPort, workerData } from 'node:worker_threads'
     if (workerData.does === 'throw') throw new Error('thrown in the thread')
     if (workerData.does === 'exit') process.exit(3)
     parentPort.postMessage({ index: workerData.index })
     if (workerData.does === 'wait') {
       parentPort.on('message', () => {})
       const stopped = Atomics.waitAsync(workerData.stop, 0, 0)
       if (stopped.async) await stopped.value
       parentPort.close()
     }
     if (workerData.does === 'hang') setInterval(() => {}, 1000)`,
  )
  script = pathToFileURL(path)
})
afterEach(() => void vi.useRealTimers())
afterAll(() => scratch[Symbol.asyncDispose]())

type Does = 'end' | 'throw' | 'exit' | 'wait' | 'hang'
interface Message {
  index: number
}

/** Runs a crew in which each thread does one thing; says which threads spoke, and whether they were asked to stop. */
async function run(
  does: Does[],
  options: {
    signal?: AbortSignal
    onMessage?: (message: Message, worker: Worker, fail: (error: unknown) => void) => void
    data?: (index: number) => object
  } = {},
) {
  const workers: Worker[] = []
  const stop = new Int32Array(new SharedArrayBuffer(4))
  const result = {
    spoke: [] as number[],
    stops: 0,
    error: undefined as unknown,
  }
  try {
    await runCrew(script, does.length, {
      data: (index) => ({ index, does: does[index], stop, ...options.data?.(index) }),
      onMessage: (message: Message, worker, fail) => {
        result.spoke.push(message.index)
        if (!workers.includes(worker)) workers.push(worker)
        options.onMessage?.(message, worker, fail)
      },
      onStop: () => {
        result.stops++
        Atomics.store(stop, 0, 1)
        Atomics.notify(stop, 0)
      },
      signal: options.signal ?? new AbortController().signal,
    })
  } catch (error) {
    result.error = error
  }
  // A thread that has ended has no id any more.
  for (const worker of workers) expect(worker.threadId).toBe(-1)
  return result
}

test('a crew is done when every thread has ended', async () => {
  const { spoke, error, stops } = await run(['end', 'end', 'end'])
  expect(spoke.toSorted()).toEqual([0, 1, 2])
  expect(error).toBeUndefined()
  expect(stops).toBe(0)
})

test('an error that a thread throws stops the others and is thrown', async () => {
  const { error, stops } = await run(['wait', 'throw', 'wait'], {})
  expect(error).toMatchObject({ message: 'thrown in the thread' })
  expect(stops).toBe(1)
})

test('what a message reports as failure is thrown, and only the first', async () => {
  const { error, stops } = await run(['wait', 'wait'], {
    onMessage: ({ index }, _worker, fail) => fail(new Error(`failure of ${index}`)),
  })
  expect(error).toMatchObject({ message: expect.stringMatching(/^failure of/) })
  expect(stops).toBe(1)
})

test('an error in the handling of a message ends the crew too, and not the process', async () => {
  const { error } = await run(['wait', 'wait'], {
    onMessage: () => {
      throw new TypeError('a bug in the handler')
    },
  })
  expect(error).toMatchObject({ message: 'a bug in the handler' })
})

test('a thread that ends with a code, without an error, is a failure', async () => {
  const { error } = await run(['wait', 'exit'])
  expect(error).toMatchObject({ message: 'a worker thread ended with code 3' })
})

test('data that cannot be handed to a thread is a failure that leaves no thread', async () => {
  const { error, stops } = await run(['wait', 'wait'], {
    data: (index) => (index === 1 ? { does: () => {} } : {}),
  })
  expect(error).toMatchObject({ name: 'DataCloneError' })
  expect(stops).toBe(1)
})

test('an abort stops the crew, and its reason is thrown', async () => {
  const abort = new AbortController()
  const reason = new PgrecallError('interrupted', 'stopped by SIGINT')
  const { error, stops } = await run(['wait', 'wait'], {
    signal: abort.signal,
    onMessage: () => abort.abort(reason),
  })
  expect(error).toBe(reason)
  expect(stops).toBe(1)
})

test('a thread that does not listen is ended by force when it had its time', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  const abort = new AbortController()
  const { error } = await run(['hang'], {
    signal: abort.signal,
    onMessage: () => {
      abort.abort(new Error('stop'))
      vi.advanceTimersByTime(60_000)
    },
  })
  expect(error).toMatchObject({ message: 'stop' })
})

test('a crew that is aborted before it begins starts no thread', async () => {
  const { spoke, error } = await run(['end'], { signal: AbortSignal.abort(new Error('too late')) })
  expect(error).toMatchObject({ message: 'too late' })
  expect(spoke).toEqual([])
})

test('the code of a worker is beside the module that starts it, as what there is', async () => {
  const folder = join(scratch.path, 'modules')
  await mkdir(folder)
  await scratch.file('modules/copy-worker.ts', '')
  const module = (name: string) => pathToFileURL(join(folder, name)).href
  expect(workerScript('copy-worker', module('pool.ts')).href).toBe(module('copy-worker.ts'))
  expect(workerScript('copy-worker', module('main.js')).href).toBe(module('copy-worker.js'))
  expect(workerScript('absent', module('pool.ts')).href).toBe(module('absent.js'))
})

test('an error of ours crosses to another thread with its kind and hint', () => {
  const error = new PgrecallError('damaged', 'the object is damaged', { hint: 'use another' })
  const arrived = unwrap(structuredClone(carry(error)))
  expect(arrived).toBeInstanceOf(PgrecallError)
  expect(arrived).toMatchObject({ kind: 'damaged', message: 'the object is damaged', hint: 'use another' })
})

test('any other error crosses with its stack, and what is no error as its text', () => {
  const error = new RangeError('out of range')
  const arrived = unwrap(structuredClone(carry(error)))
  expect(arrived).not.toBeInstanceOf(PgrecallError)
  expect(arrived).toMatchObject({ message: 'out of range', stack: error.stack })
  expect(unwrap(carry('just a text') satisfies Carried).message).toBe('just a text')
})
