import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { BackupMethod, BackupRequest, BackupRun, Preflight } from '../../src/backup/method.ts'
import { takeBackup } from '../../src/backup/take-backup.ts'
import { RENEW_MS } from '../../src/catalog/holder.ts'
import { markRepository } from '../../src/catalog/identity.ts'
import { Events } from '../../src/events.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { readObject } from '../../src/storage/storage.ts'
import { poll } from '../lab/poll.ts'
import { plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'

let scratch: Scratch
beforeEach(async () => {
  scratch = await Scratch.create('lost')
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
})
afterEach(async () => {
  vi.useRealTimers()
  await scratch[Symbol.asyncDispose]()
})

const REQUEST = {
  cluster: 'main',
  codec: { method: 'zstd', level: 1 },
  resume: true,
} as BackupRequest

/** Takes a backup that comes to nothing. @returns the warnings */
async function backUpUntil(names: string[], take: (run: BackupRun) => Promise<void>): Promise<string[]> {
  const warnings: string[] = []
  const method: BackupMethod = {
    name: 'files',
    lost: undefined,
    resumes: true,
    fullOnly: () => undefined,
    check: async () =>
      ({
        facts: { systemIdentifier: '7', walSegmentBytes: 1 << 24 },
        warnings: [],
        bytes: 0,
      }) as unknown as Preflight,
    take: async (run) => {
      await take(run)
      throw new Error('enough')
    },
    awaitWal: async () => {},
  }
  const repositories = names.map((name) => plainRepository(name, new LocalStorage(join(scratch.path, name))))
  const taking = takeBackup(REQUEST, method, {
    repositories,
    makeIfNew: async ({ storage }) => void (await markRepository(storage)),
    events: new Events().on('warning', ({ text }) => warnings.push(text)),
    signal: new AbortController().signal,
    now: () => new Date(),
  })
  await expect(taking).rejects.toThrow(names.length > 1 ? 'enough' : 'broke our lock')
  return warnings
}

async function takeLockOver(name: string): Promise<void> {
  const storage = new LocalStorage(join(scratch.path, name))
  for await (const { key } of storage.list('main/locks/')) {
    const holder = JSON.parse(String(await readObject(storage, key)))
    await storage.put(key, Buffer.from(JSON.stringify({ ...holder, id: 'another', host: 'elsewhere' })))
  }
  vi.advanceTimersByTime(RENEW_MS)
}

test('nothing more is written to a repository whose lock another host has taken over', async () => {
  let left: string[] = []
  const warnings = await backUpUntil(['one', 'two'], async ({ store, signal }) => {
    await takeLockOver('two')
    await poll(() => store.repositories.length < 2, { what: 'the loss of a repository' })
    const stored = await store.put('object', (async function* () {})())
    left = Object.keys(stored)
    expect(signal.aborted).toBe(false)
  })
  expect(left).toEqual(['one'])
  expect(warnings).toEqual([
    expect.stringMatching(/^no backup in repository "two": another host broke our lock/),
  ])
})

test('with the lock of the last one the backup is stopped', async () => {
  await backUpUntil(['one'], async ({ signal }) => {
    await takeLockOver('one')
    await poll(() => signal.aborted, { what: 'the end of the backup' })
  })
})
