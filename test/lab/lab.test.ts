import { HeadBucketCommand } from '@aws-sdk/client-s3'
import { describe, expect, test } from 'vitest'
import { readObject } from '../../src/storage/storage.ts'
import { gatewayMissing } from './gateway.ts'
import { Lab } from './lab.ts'
import { requireServer } from './programs.ts'

describe.skipIf(gatewayMissing())('a lab with several repositories', () => {
  test('archives to a folder and to a bucket, encrypted', { timeout: 60_000 }, async (context) => {
    requireServer(context)
    await using lab = await Lab.create({ repositories: { local: 'local', offsite: 's3' }, encrypted: true })
    const segment = await lab.cluster.archiveWal()
    for (const { storage } of Object.values(lab.repositories)) {
      const keys = await Array.fromAsync(storage.list('main/wal/'), ({ key }) => key)
      const key = keys.find((name) => name.includes(segment))!
      expect((await readObject(storage, key))!.subarray(0, 21).toString()).toBe('age-encryption.org/v1')
    }
    const Bucket = String(lab.repositories.offsite!.configuration.bucket)
    await lab.gateway!.client.send(new HeadBucketCommand({ Bucket }))
  })
})
