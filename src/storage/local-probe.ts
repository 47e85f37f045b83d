import { PROBE_KEY, tryIt } from './probe.ts'
import { type ProbeFinding, readObject, type Storage } from './storage.ts'

/** Tries what pgrecall does with a repository in a folder; after the first failure the rest would say the same again. */
export async function* probeFolder(storage: Storage, signal?: AbortSignal): AsyncIterable<ProbeFinding> {
  const content = Buffer.from(`written by pgrecall check at ${new Date().toISOString()}\n`)
  const steps: [subject: string, work: () => Promise<string>][] = [
    [
      'write an object',
      async () => {
        await storage.put(PROBE_KEY, content)
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
  ]
  for (const [subject, work] of steps) {
    const finding = await tryIt(subject, work, signal)
    yield finding
    if (finding.verdict === 'fail') return
  }
}
