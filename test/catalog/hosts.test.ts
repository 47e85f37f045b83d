import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { claimIdentity } from '../../src/catalog/identity.ts'
import { acquireLock } from '../../src/catalog/lock.ts'
import { livingPins, pinBackup } from '../../src/catalog/pin.ts'
import { Events } from '../../src/events.ts'
import { applyRetention } from '../../src/retention/apply.ts'
import { S3Storage } from '../../src/storage/s3.ts'
import { FaultProxy } from '../lab/fault-proxy.ts'
import { lostAnswer, slowDown } from '../lab/faults.ts'
import { gatewayMissing, sharedGateway } from '../lab/gateway.ts'
import { plainRepository } from '../lab/repositories.ts'
import { keysOf, range, record, SEGMENT, storeBackup, storeWal } from './stored.ts'
import { bucketAddress } from './stores.ts'

const SOURCE = fileURLToPath(new URL('../../src/', import.meta.url))
const IDS = [1, 2].map((day) => `2026110${day}T120000Z-full`) as [string, string]
/** What makes a process one of another host, to all that pgrecall can see. */
const ELSEWHERE = ['unshare', '--uts', '--pid', '--fork', '--kill-child', '--mount-proc']
const MINUTE = 60_000
const HOLDING = "globalThis.lock = await acquireLock(storage, 'main', { purpose: 'backup', now })"

const options = (purpose: string) => ({ purpose, now: () => new Date() })

describe.skipIf(gatewayMissing())('two hosts at one bucket', () => {
  const children: ChildProcess[] = []
  let storage: S3Storage
  beforeEach(async (context) => {
    if (spawnSync(ELSEWHERE[0]!, [...ELSEWHERE.slice(1), 'hostname', 'db2']).status !== 0)
      context.skip('no process with another host name can be made here')
    storage = new S3Storage(await bucketAddress())
  })
  afterEach(() => {
    for (const child of children.splice(0)) child.kill('SIGKILL')
  })

  test('the second one is told who holds the lock, and gets it when the first has ended', async () => {
    const other = await onAnotherHost(
      "await using lock = await acquireLock(storage, 'main', { purpose: 'backup', now })",
    )
    await expect(acquireLock(storage, 'main', options('backup'))).rejects.toMatchObject({
      kind: 'busy',
      message: expect.stringMatching(
        /^cluster "main" in s3:\/\/\S+ is locked by backup \(process \d+ on db2, since 20[^)]*\)$/,
      ),
    })
    await ends(other)
    await using _lock = await acquireLock(storage, 'main', options('backup'))
  })

  test('a lock that a dead host left is watched, then broken', async () => {
    const other = await onAnotherHost(HOLDING, {
      clock: -10 * MINUTE,
    })
    const gone = once(other, 'exit')
    other.kill('SIGKILL')
    await gone
    const warnings: string[] = []
    await using lock = await acquireLock(storage, 'main', {
      ...options('retention'),
      onWarning: (text) => warnings.push(text),
      pause: async () => {},
    })
    expect(lock.mayHaveRival).toBe(true)
    expect(warnings).toEqual([
      expect.stringMatching(/^the lock of backup \(process \d+ on db2, .* looks abandoned/),
      expect.stringMatching(/^broke the lock that backup \(process \d+ on db2, /),
    ])
    expect(await keysOf(storage)).toHaveLength(1)
  })

  test('a clock that is minutes ahead or behind does not cost a living host its lock', async () => {
    const meet = async (clock: number) => {
      const bucket = new S3Storage(await bucketAddress())
      await onAnotherHost(HOLDING, { clock, bucket })
      // The real pause: the other one renews within it.
      await expect(acquireLock(bucket, 'main', options('retention'))).rejects.toMatchObject({
        kind: 'busy',
        message: expect.stringContaining('on db2'),
      })
    }
    await Promise.all([-7 * MINUTE, 7 * MINUTE].map(meet))
  })

  test('retention here keeps what is being restored there', async () => {
    const identity = { systemIdentifier: '7400000000000000001', walSegmentBytes: SEGMENT }
    await claimIdentity(storage, 'main', identity)
    for (const [index, id] of IDS.entries())
      await storeBackup(storage, record(id, { first: 10 * (index + 1) }))
    await storeWal(storage, range(9, 21))
    const retention = () =>
      applyRetention(
        'main',
        { full: 1 },
        {
          repository: plainRepository('offsite', storage),
          events: new Events(),
          signal: new AbortController().signal,
          now: () => new Date(),
        },
      )
    const other = await onAnotherHost(
      `await using pin = await pinBackup(storage, 'main', '${IDS[0]}', 'restore', now)`,
    )
    expect(await retention()).toMatchObject({
      removedBackups: 0,
      removedWal: 1,
      plan: { backups: [{ stays: true, reason: 'in use: restore on db2' }, {}] },
    })
    await ends(other)
    expect(await retention()).toMatchObject({ removedBackups: 1, removedWal: 10 })
  })

  /** Runs a step as a process of the host `db2`; resolves when it is done. The process stays until its input ends. */
  async function onAnotherHost(step: string, { clock = 0, bucket = storage } = {}): Promise<ChildProcess> {
    const script = `
      const { openStorage } = await import(${JSON.stringify(join(SOURCE, 'storage/open.ts'))})
      const { acquireLock } = await import(${JSON.stringify(join(SOURCE, 'catalog/lock.ts'))})
      const { pinBackup } = await import(${JSON.stringify(join(SOURCE, 'catalog/pin.ts'))})
      const storage = openStorage(${JSON.stringify(bucket.address)})
      const now = () => new Date(Date.now() + ${clock})
      {
        ${step}
        process.stdout.write('done')
        for await (const _ of process.stdin);
      }
      process.exit()`
    const node = `hostname db2 && exec "$0" --input-type=module -e "$1"`
    const child = spawn(ELSEWHERE[0]!, [...ELSEWHERE.slice(1), 'sh', '-c', node, process.execPath, script], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    children.push(child)
    await once(child.stdout!, 'data')
    return child
  }

  async function ends(child: ChildProcess): Promise<void> {
    const ended = once(child, 'exit')
    child.stdin!.end()
    await ended
  }
})

describe.skipIf(gatewayMissing())('a host that may write and never delete', () => {
  let storage: S3Storage
  let owner: S3Storage
  beforeEach(async () => {
    const address = await bucketAddress()
    const gateway = await sharedGateway()
    const actions = ['s3:PutObject', 's3:GetObject', 's3:ListBucket']
    const { credentialsFile } = await gateway.user(address.bucket, actions)
    storage = new S3Storage({ ...address, credentialsFile })
    owner = new S3Storage(address)
  })

  test('releases its lock by emptying it, as often as it likes; who may delete clears up', async () => {
    const warnings: string[] = []
    const own = { ...options('backup'), onWarning: (text: string) => warnings.push(text) }
    for (let run = 1; run <= 3; run++) {
      await using lock = await acquireLock(storage, 'main', own)
      expect(await keysOf(storage)).toHaveLength(run)
      await lock.confirm()
    }
    await using _ownersLock = await acquireLock(owner, 'main', own)
    expect(await keysOf(storage)).toHaveLength(1)
    expect(warnings).toEqual([])
  })

  test('takes back its pins in the same way', async () => {
    {
      await using _pin = await pinBackup(storage, 'main', IDS[0], 'restore', () => new Date())
      expect(await livingPins(storage, 'main', new Date())).toEqual([
        { backup: IDS[0], purpose: `restore on ${hostname()}` },
      ])
    }
    expect(await livingPins(storage, 'main', new Date())).toEqual([])
  })
})

describe.skipIf(gatewayMissing())('through a bad line', () => {
  let proxy: FaultProxy
  beforeAll(async () => {
    proxy = await FaultProxy.start(await sharedGateway())
  })
  afterAll(() => proxy?.[Symbol.asyncDispose]())

  test('a lock is taken once and released, whichever answers are lost', async () => {
    const address = await bucketAddress({ endpoint: proxy.endpoint })
    const storage = new S3Storage(address, { firstPauseMs: 1 })
    proxy.inject({ match: 'PutObject', times: 2, fault: lostAnswer })
    proxy.inject({ match: 'ListObjectsV2', times: 2, fault: slowDown })
    const removal = proxy.inject({ match: 'DeleteObject', fault: lostAnswer })
    {
      await using lock = await acquireLock(storage, 'main', options('backup'))
      expect(proxy.operations.filter((operation) => operation === 'PutObject')).toHaveLength(3)
      expect(await keysOf(storage)).toHaveLength(1)
      await lock.confirm()
      await expect(acquireLock(storage, 'main', options('retention'))).rejects.toMatchObject({ kind: 'busy' })
    }
    expect(removal.met).toBe(1)
    expect(await keysOf(storage)).toEqual([])
  })
})
