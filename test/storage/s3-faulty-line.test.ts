import { existsSync } from 'node:fs'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { ListMultipartUploadsCommand } from '@aws-sdk/client-s3'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { tableChecksums } from '../lab/checksums.ts'
import { FaultProxy, type SeenRequest } from '../lab/fault-proxy.ts'
import {
  closeDownload,
  type Fault,
  internalError,
  lostAnswer,
  resetAtOnce,
  resetUpload,
  shortDownload,
  slowDown,
  wrongDownload,
  wrongUpload,
} from '../lab/faults.ts'
import { gatewayMissing, sharedGateway } from '../lab/gateway.ts'
import { Lab } from '../lab/lab.ts'
import { requireServer } from '../lab/programs.ts'

const ALWAYS = Number.POSITIVE_INFINITY

describe.skipIf(gatewayMissing())('a cluster whose repository is behind a line that fails', () => {
  let proxy: FaultProxy
  let lab: Lab

  beforeAll(async () => {
    proxy = await FaultProxy.start(await sharedGateway())
    lab = await Lab.create({
      repositories: { offsite: 's3' },
      encrypted: true,
      configure: ({ repositories }) => {
        repositories.offsite!.endpoint = proxy.endpoint
      },
    })
  })
  beforeEach((context) => {
    requireServer(context)
  })
  afterEach(() => proxy.reset())
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]()
    await proxy?.[Symbol.asyncDispose]()
  })

  test('is backed up and restored whole when every seventh request fails', async () => {
    await lab.cluster.pgbench(['--initialize', '--scale=1', '--quiet'])
    const faults = [
      slowDown,
      lostAnswer,
      resetAtOnce,
      internalError,
      closeDownload(2000),
      resetUpload(2000),
      wrongUpload(50),
    ]
    let requests = 0
    const isSeventh = () => ++requests % 7 === 0
    const injected = proxy.inject({
      match: isSeventh,
      times: ALWAYS,
      fault: (exchange) => faults[injected.met % faults.length]!(exchange),
    })
    const backup = await lab.pgrecall(['backup', '--no-progress'])
    expect(backup).toMatchObject({ exitCode: 0 })
    const before = await tableChecksums(lab.cluster)
    await lab.cluster.archiveWal()

    const target = join(lab.scratch.path, 'restored')
    expect(await lab.pgrecall(['restore', '--data-directory', target, '--no-progress'])).toMatchObject({
      exitCode: 0,
    })
    await using restored = await lab.adopt(target)
    await restored.start()
    await restored.waitForPromotion()
    expect(await tableChecksums(restored)).toEqual(before)
    expect(injected.met).toBeGreaterThan(faults.length)
    const Bucket = String(lab.repositories.offsite!.configuration.bucket)
    const { Uploads = [] } = await lab.gateway!.client.send(new ListMultipartUploadsCommand({ Bucket }))
    // What was begun without that we heard of it has no name that we know, and is swept later.
    const begun = proxy.requests.filter(({ operation }) => operation === 'CreateMultipartUpload')
    const unheard = begun.filter(({ status }) => status !== 200)
    expect(Uploads.length).toBeLessThanOrEqual(unheard.length)
  })

  test.each([
    ['wrong', wrongDownload(600)],
    ['short', shortDownload(600)],
  ] as [string, Fault][])('never hands over a segment whose bytes are %s', async (_name, fault) => {
    const segment = await lab.cluster.archiveWal()
    const folder = await lab.scratch.folder(`recovery-${segment}`)
    const fetch = () => lab.pgrecall(['wal-fetch', segment, 'RECOVERYXLOG'], { cwd: folder })
    const file = join(folder, 'RECOVERYXLOG')
    const isSegment = ({ operation, key }: SeenRequest) => operation === 'GetObject' && key.includes(segment)
    const injected = proxy.inject({ match: isSegment, times: ALWAYS, fault })
    const answer = await fetch()
    expect(injected.met).toBeGreaterThan(0)
    expect(answer.exitCode).toBeGreaterThan(125)
    expect(existsSync(file)).toBe(false)

    proxy.reset()
    expect(await fetch()).toMatchObject({ exitCode: 0 })
    const original = await readFile(join(lab.cluster.dataDirectory, 'pg_wal', segment))
    expect(original.equals(await readFile(file))).toBe(true)
    await rm(file)
  })
})
