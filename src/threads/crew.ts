import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'

/** A thread looks at the stop mark between two frames; one of zstd:19 takes seconds on a busy machine. */
const GRACE_MS = 15_000

/** Left alone, each thread keeps some 70 MB for objects that died young; they live in a few. */
const LIMITS = { maxYoungGenerationSizeMb: 6 }

/**
 * Runs worker threads side by side until each has ended by itself. The first one that fails, or an abort, stops the
 * others and is thrown; when this returns or throws, no thread is left.
 *
 * @param start gives each thread its data, listens to its messages, and gets `fail` for what must end the crew
 * @param onStop asks the threads to end by themselves, so that they can clean up; they are ended by force after that
 */
export async function runCrew(
  script: URL,
  size: number,
  crew: {
    data: (index: number) => unknown
    onMessage: (message: never, worker: Worker, fail: (error: unknown) => void) => void
    onStop: () => void
    signal: AbortSignal
  },
): Promise<void> {
  crew.signal.throwIfAborted()
  let failure: { error: unknown } | undefined
  const workers: Worker[] = []
  const fail = (error: unknown) => {
    if (failure) return
    failure = { error }
    crew.onStop()
    // A thread that waits for an answer will not look at the stop mark: it is ended when it had time to clean up.
    setTimeout(() => {
      for (const worker of workers) void worker.terminate()
    }, GRACE_MS).unref()
  }
  const onAbort = () => fail(crew.signal.reason)
  crew.signal.addEventListener('abort', onAbort, { once: true })
  const run = (index: number) =>
    new Promise<void>((resolve) => {
      const worker = new Worker(script, { workerData: crew.data(index), resourceLimits: LIMITS })
      workers.push(worker)
      worker.on('message', (message) => {
        try {
          crew.onMessage(message as never, worker, fail)
        } catch (error) {
          fail(error)
        }
      })
      worker.on('error', fail)
      worker.on('exit', (code) => {
        // Without an error of its own, as when something in it called process.exit: its work is not done.
        if (code !== 0) fail(new Error(`a worker thread ended with code ${code}`))
        resolve()
      })
    }).catch(fail)
  try {
    await Promise.all(Array.from({ length: size }, (_, index) => run(index)))
  } finally {
    crew.signal.removeEventListener('abort', onAbort)
  }
  if (failure) throw failure.error
}

/**
 * Where a worker's code is: next to the importing module, as TypeScript in the source tree and as JavaScript in what
 * ships.
 */
export function workerScript(name: string, importMetaUrl: string): URL {
  const source = new URL(`./${name}.ts`, importMetaUrl)
  return importMetaUrl.endsWith('.ts') && existsSync(fileURLToPath(source))
    ? source
    : new URL(`./${name}.js`, importMetaUrl)
}
