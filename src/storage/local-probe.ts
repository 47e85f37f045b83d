import { judgeClock, LOCKS_GO_BY_IT, PROBE_KEY, tryIt } from './probe.ts'
import { type ProbeFinding, readObject, type Storage } from './storage.ts'

type Step = [subject: string, work: () => Promise<string | Omit<ProbeFinding, 'subject'>>]

/** Tries what pgrecall does with a repository in a folder; after the first failure the rest would say the same again. */
export async function* probeFolder(storage: Storage, signal?: AbortSignal): AsyncIterable<ProbeFinding> {
  const content = Buffer.from(`written by pgrecall check at ${new Date().toISOString()}\n`)
  let aheadMs = 0
  const steps: Step[] = [
    [
      'write an object',
      async () => {
        const before = Date.now()
        await storage.put(PROBE_KEY, content)
        const now = (before + Date.now()) / 2
        // On a disk of another host its clock stands in the files.
        aheadMs = ((await storage.stat(PROBE_KEY))?.modified.getTime() ?? now) - now
        return `${storage.location} can be written`
      },
    ],
    [
      'read an object',
      async () => {
        const read = await readObject(storage, PROBE_KEY)
        if (!read?.equals(content)) throw new Error(`${PROBE_KEY} was written, and does not read the same`)
        return 'what was written reads the same'
      },
    ],
    [
      'list objects',
      async () => {
        for await (const { key } of storage.list(PROBE_KEY))
          if (key === PROBE_KEY) return 'what was written is listed'
        throw new Error(`${PROBE_KEY} was written, and is not listed`)
      },
    ],
    [
      'remove an object',
      async () => {
        await storage.remove(PROBE_KEY)
        await storage.sweep()
        return 'what was written is removed'
      },
    ],
    ['clock', async () => judgeClock(aheadMs, "the repository's", LOCKS_GO_BY_IT)],
  ]
  for (const [subject, work] of steps) {
    const finding = await tryIt(subject, work, signal)
    yield finding
    if (finding.verdict === 'fail') return
  }
}

/** Looks at a folder as who only reads it: changes nothing. */
export async function* lookAtFolder(storage: Storage, signal?: AbortSignal): AsyncIterable<ProbeFinding> {
  const list = async () => {
    for await (const _ of storage.list('')) break
    return 'objects can be listed'
  }
  yield await tryIt('list objects', list, signal)
}
