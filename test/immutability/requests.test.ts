import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { acquireLock } from '../../src/catalog/lock.ts'
import { S3Storage } from '../../src/storage/s3.ts'
import { FaultProxy } from '../lab/fault-proxy.ts'
import { gatewayMissing, sharedGateway } from '../lab/gateway.ts'
import { Lab } from '../lab/lab.ts'
import { requireServer } from '../lab/programs.ts'
import { finishSegment, SMALL_SEGMENTS } from '../wal/segments.ts'

/** What docs/s3.md says that things cost. */
describe.skipIf(gatewayMissing())('the requests of', () => {
  beforeEach((context) => void requireServer(context))

  test.each([
    ['with conditions', true, ['GetObject', 'PutObject']],
    ['without conditions', false, ['GetObject', 'HeadObject', 'HeadObject', 'PutObject']],
  ])('a segment that is archived and fetched, %s', async (_how, conditionalWrites, expected) => {
    await using proxy = await FaultProxy.start(await sharedGateway())
    await using lab = await Lab.create({
      ...SMALL_SEGMENTS,
      repositories: { offsite: 's3' },
      configure: ({ repositories, clusters }) => {
        Object.assign(repositories.offsite!, { endpoint: proxy.endpoint, conditionalWrites })
        clusters.main!.wal = { batch: 0, prefetch: 0 }
      },
    })
    const of = (name: string) =>
      proxy.requests.filter(({ key }) => key.includes(name)).map(({ operation }) => operation)
    const names = [await finishSegment(lab), await finishSegment(lab)]
    for (const name of names) {
      proxy.reset()
      expect(
        (await lab.pgrecall(['wal-push', join(lab.cluster.dataDirectory, 'pg_wal', name)])).exitCode,
      ).toBe(0)
      expect(of(name).toSorted()).toEqual(expected)
    }
    // Of the call, beside the segment.
    expect(
      proxy.requests
        .filter(({ key }) => !key.includes(names[1]!))
        .map(({ operation, key }) => `${operation} ${key}`),
    ).toEqual(['GetObject main/cluster.json'])
    proxy.reset()
    expect((await lab.pgrecall(['wal-fetch', names[0]!, join(lab.scratch.path, 'fetched')])).exitCode).toBe(0)
    expect(of(names[0]!)).toEqual(['GetObject'])
  })

  test('a lock that is taken, looked at and released', async () => {
    const gateway = await sharedGateway()
    await using proxy = await FaultProxy.start(gateway)
    const storage = new S3Storage(gateway.address(await gateway.bucket(), { endpoint: proxy.endpoint }))
    {
      await using lock = await acquireLock(storage, 'main', { purpose: 'backup', now: () => new Date() })
      expect(proxy.operations).toEqual(['ListObjectsV2', 'PutObject', 'ListObjectsV2', 'GetObject'])
      await lock.confirm()
    }
    const confirmed = ['ListObjectsV2', 'GetObject', 'GetObject']
    expect(proxy.operations.slice(4)).toEqual([...confirmed, 'GetObject', 'DeleteObject'])
  })
})
