import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { newHolder, RENEW_MS, SUSPECT_MS } from '../../src/catalog/holder.ts'
import { livingPins, pinBackup, sweepPins } from '../../src/catalog/pin.ts'
import { readObject, type Storage } from '../../src/storage/storage.ts'
import { poll } from '../lab/poll.ts'
import { Scratch } from '../lab/scratch.ts'
import { keysOf } from './stored.ts'
import { STORES } from './stores.ts'

const SOURCE = fileURLToPath(new URL('../../src/', import.meta.url))
const ID = '20261120T120000Z-full'
const DAY = 24 * 3_600_000

let scratch: Scratch
let storage: Storage
beforeAll(async () => {
  scratch = await Scratch.create('pin')
})
afterAll(() => scratch[Symbol.asyncDispose]())
afterEach(() => void vi.useRealTimers())

const now = () => new Date()
const later = (ms: number) => new Date(Date.now() + ms)

describe.each(STORES)('in $name', ({ open, missing }) => {
  beforeEach(async (context) => {
    if (missing !== undefined) context.skip(missing)
    storage = await open(scratch)
  })

  test('a pin counts while it is held, and is gone afterwards', async () => {
    {
      await using _pin = await pinBackup(storage, 'main', ID, 'restore', now)
      expect(await livingPins(storage, 'main', now())).toEqual([
        { backup: ID, purpose: `restore on ${hostname()}` },
      ])
      expect(await livingPins(storage, 'other', now())).toEqual([])
    }
    expect(await keysOf(storage)).toEqual([])
  })

  test('two can pin the same backup, and each pin ends by itself', async () => {
    await using _first = await pinBackup(storage, 'main', ID, 'restore', now)
    {
      await using _second = await pinBackup(storage, 'main', ID, 'verify', now)
      expect(await livingPins(storage, 'main', now())).toHaveLength(2)
    }
    expect(await livingPins(storage, 'main', now())).toEqual([
      { backup: ID, purpose: `restore on ${hostname()}` },
    ])
  })

  test('a pin is renewed while it is held', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    let moment = new Date('2026-11-20T12:00:00Z')
    await using _pin = await pinBackup(storage, 'main', ID, 'restore', () => moment)
    const [key] = await keysOf(storage)
    moment = new Date('2026-11-20T12:00:30Z')
    vi.advanceTimersByTime(RENEW_MS)
    const renewedAt = async () => JSON.parse(String(await readObject(storage, key!))).renewedAt as string
    await poll(async () => (await renewedAt()) === moment.toISOString(), { what: 'the renewal' })
    expect(JSON.parse(String(await readObject(storage, key!)))).toMatchObject({
      backup: ID,
      since: '2026-11-20T12:00:00.000Z',
    })
  })

  test('the pin of a killed process counts no more; looking leaves it, sweeping removes it', async () => {
    const script = `
    const { openStorage } = await import(${JSON.stringify(join(SOURCE, 'storage/open.ts'))})
    const { pinBackup } = await import(${JSON.stringify(join(SOURCE, 'catalog/pin.ts'))})
    const storage = openStorage(${JSON.stringify(storage.address)})
    await pinBackup(storage, 'main', ${JSON.stringify(ID)}, 'restore', () => new Date())
    process.stdout.write('pinned')
    process.stdin.resume()`
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    await once(child.stdout, 'data')
    expect(await livingPins(storage, 'main', now())).toHaveLength(1)
    await sweepPins(storage, 'main', now())
    expect(await livingPins(storage, 'main', now())).toHaveLength(1)

    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
    expect(await livingPins(storage, 'main', now())).toEqual([])
    expect(await keysOf(storage)).toHaveLength(1)
    await sweepPins(storage, 'main', now())
    expect(await keysOf(storage)).toEqual([])
  })

  test('a silent pin of another host counts for a day', async () => {
    const holder = { ...(await newHolder('restore', now())), host: 'elsewhere', backup: ID }
    await storage.put('main/pins/1.json', Buffer.from(JSON.stringify(holder)))
    for (const [moment, counts] of [
      [now(), true],
      [later(SUSPECT_MS * 2), true],
      [later(DAY - 60_000), true],
      [later(DAY + 60_000), false],
    ] as const) {
      await sweepPins(storage, 'main', moment)
      expect(await livingPins(storage, 'main', moment), String(moment)).toHaveLength(counts ? 1 : 0)
    }
    expect(await keysOf(storage)).toEqual([])
  })

  test('a pin that was only emptied, where nothing may be removed, counts no more', async () => {
    await storage.put('main/pins/1.json', new Uint8Array(0))
    expect(await livingPins(storage, 'main', now())).toEqual([])
    await sweepPins(storage, 'main', now())
    expect(await keysOf(storage)).toEqual([])
  })
})
