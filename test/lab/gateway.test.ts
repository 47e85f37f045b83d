import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import {
  DeleteObjectCommand,
  GetObjectCommand,
  PutObjectCommand,
  PutObjectRetentionCommand,
  S3,
} from '@aws-sdk/client-s3'
import { execa } from 'execa'
import { describe, expect, test } from 'vitest'
import { type Credentials, Gateway, gatewayMissing, sharedGateway } from './gateway.ts'
import { poll } from './poll.ts'
import { isAlive } from './processes.ts'

describe.skipIf(gatewayMissing())('the S3 server of the lab', () => {
  test('stores, answers conditions, and leaves nothing; two of them do not meet', async () => {
    let pids: number[]
    let credentialsFile: string
    {
      await using gateway = await Gateway.start()
      await using other = await Gateway.start()
      expect(other.endpoint).not.toBe(gateway.endpoint)
      credentialsFile = gateway.credentialsFile
      pids = [...(await pidsOf(gateway)), ...(await pidsOf(other))]
      expect(pids.map(isAlive)).toEqual(Array(6).fill(true))

      const Bucket = await gateway.bucket()
      const put = new PutObjectCommand({ Bucket, Key: 'a/b', Body: 'once', IfNoneMatch: '*' })
      await gateway.client.send(put)
      await expect(gateway.client.send(put)).rejects.toThrow(
        expect.objectContaining({ name: 'PreconditionFailed' }),
      )
      const { Body } = await gateway.client.send(new GetObjectCommand({ Bucket, Key: 'a/b' }))
      expect(await Body!.transformToString()).toBe('once')
    }
    await poll(() => !pids.some(isAlive), { what: 'the end of the servers' })
    expect(existsSync(credentialsFile)).toBe(false)
  })

  test('users may do what they were given', async () => {
    const gateway = await sharedGateway()
    const Bucket = await gateway.bucket()
    const writer = await gateway.user(Bucket, ['s3:PutObject', 's3:GetObject', 's3:ListBucket'])
    const reader = await gateway.user(Bucket, ['s3:GetObject'])
    const object = { Bucket, Key: 'kept' }
    const as = ({ accessKeyId, secretAccessKey }: Credentials) =>
      new S3({
        endpoint: gateway.endpoint,
        region: 'us-east-1',
        forcePathStyle: true,
        credentials: { accessKeyId, secretAccessKey },
      })
    const denied = expect.objectContaining({ name: 'AccessDenied' })
    await as(writer).putObject({ ...object, Body: 'x' })
    await expect(as(writer).deleteObject(object)).rejects.toThrow(denied)
    await as(reader).getObject(object)
    await expect(as(reader).putObject({ ...object, Body: 'y' })).rejects.toThrow(denied)
    expect(await readFile(reader.credentialsFile, 'utf8')).toContain(reader.secretAccessKey)
  })

  test('locked objects stay', async () => {
    const gateway = await sharedGateway()
    const object = { Bucket: await gateway.bucket({ objectLock: true }), Key: 'locked' }
    const { VersionId } = await gateway.client.send(new PutObjectCommand({ ...object, Body: 'x' }))
    const RetainUntilDate = new Date(Date.now() + 3_600_000)
    await gateway.client.send(
      new PutObjectRetentionCommand({
        ...object,
        VersionId,
        Retention: { Mode: 'COMPLIANCE', RetainUntilDate },
      }),
    )
    await expect(gateway.client.send(new DeleteObjectCommand({ ...object, VersionId }))).rejects.toThrow(
      expect.objectContaining({ name: 'AccessDenied' }),
    )
  })

  test('ends with the process that started it, also when that is killed', async () => {
    const module = fileURLToPath(new URL('gateway.ts', import.meta.url))
    const owner = execa(
      process.execPath,
      [
        '--input-type=module-typescript',
        '-e',
        `import { sharedGateway } from ${JSON.stringify(module)}
       console.log((await sharedGateway()).credentialsFile)
       setInterval(() => {}, 1000)`,
      ],
      { reject: false },
    )
    const { value } = await owner.iterable()[Symbol.asyncIterator]().next()
    const pids = await pidsOf({ credentialsFile: String(value) })
    expect(pids.map(isAlive)).toEqual([true, true, true])
    owner.kill('SIGKILL')
    await poll(() => !pids.some(isAlive) && !existsSync(String(value)), { what: 'the end of the servers' })
  })
})

/** Of the monitor, the store and the gateway. */
async function pidsOf({ credentialsFile }: Pick<Credentials, 'credentialsFile'>): Promise<number[]> {
  const names = ['mon.a', 'osd.0', 'client.admin']
  return Promise.all(
    names.map(async (name) =>
      Number(await readFile(credentialsFile.replace(/credentials$/, `${name}.pid`), 'utf8')),
    ),
  )
}
