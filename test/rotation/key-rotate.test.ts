import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { stringify } from 'yaml'
import { newIdentity, Sealer } from '../../src/archive/age.ts'
import { markRepository } from '../../src/catalog/identity.ts'
import { backupPrefix } from '../../src/catalog/layout.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { S3Storage } from '../../src/storage/s3.ts'
import { readObject, type Storage } from '../../src/storage/storage.ts'
import { AGE_PROGRAMS, ageDecrypt } from '../archive/age-program.ts'
import { answerOf, backUp, failureOf, recover } from '../backup/commands.ts'
import { keysOf } from '../catalog/stored.ts'
import { type TableChecksum, tableChecksums } from '../lab/checksums.ts'
import { gatewayMissing, sharedGateway } from '../lab/gateway.ts'
import { Lab } from '../lab/lab.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { type KeyPair, sealedKeys, sums } from './encrypted.ts'

interface Rotated {
  repository: string
  dryRun: boolean
  rewrapped: number
  current: number
  headerBytes: number
  records: number
  failures: { key: string; kind: string }[]
}

const STORES: [string, string | undefined, (lab: Lab) => Promise<{ storage: Storage; config: object }>][] = [
  [
    'a folder',
    undefined,
    async ({ repository }) => ({
      storage: new LocalStorage(repository),
      config: { type: 'local', path: repository },
    }),
  ],
  [
    'a bucket',
    gatewayMissing(),
    async () => {
      const gateway = await sharedGateway()
      const { endpoint, credentialsFile } = gateway
      const bucket = await gateway.bucket()
      const storage = new S3Storage(gateway.address(bucket))
      await markRepository(storage)
      return {
        storage,
        config: {
          type: 's3',
          bucket,
          endpoint,
          credentialsFile,
          region: 'us-east-1',
          forcePathStyle: true,
          partSize: '5MB',
        },
      }
    },
  ],
]

describe.skipIf(!findPrograms() && !process.env.CI).each(STORES)('in %s', (_name, missing, open) => {
  let lab: Lab
  let storage: Storage
  let config: object
  let pairs: Record<'before' | 'after', KeyPair & { file: string }>
  let content: TableChecksum[]
  let id: string

  beforeAll(async () => {
    if (missing !== undefined) return
    lab = await Lab.create()
    const opened = await open(lab)
    storage = opened.storage
    config = opened.config
    const draw = async (name: string) => {
      const pair = await newIdentity()
      return { ...pair, file: await lab.scratch.file(`${name}.txt`, `${pair.identity}\n`) }
    }
    pairs = { before: await draw('before'), after: await draw('after') }
    await configure('before', ['before'])
    await lab.cluster.sql('CREATE TABLE numbers AS SELECT generate_series(1, 100000) AS n')
    id = (await backUp(lab)).id
    await lab.cluster.sql('INSERT INTO numbers VALUES (0)')
    await lab.cluster.archiveWal()
    content = await tableChecksums(lab.cluster)
  })
  beforeEach((context) => {
    if (missing !== undefined) context.skip(missing)
    requireServer(context)
  })
  afterAll(() => lab?.[Symbol.asyncDispose]())

  /** What the host is configured for from now on. */
  async function configure(
    recipient: 'before' | 'after',
    identities: readonly ('before' | 'after')[],
  ): Promise<void> {
    const encryption = {
      recipients: [pairs[recipient].recipient],
      identityFile: identities.map((name) => pairs[name].file),
    }
    const { dataDirectory, host, port, user } = lab.cluster
    const main = { dataDirectory, connection: { host, port, user }, repositories: ['vault'] }
    const text = stringify({ repositories: { vault: { ...config, encryption } }, clusters: { main } })
    await lab.scratch.file('pgrecall.yaml', text)
  }

  test('a rotation takes a cluster from one key to another', async () => {
    const objects = (await sealedKeys(storage)).length
    const payloads = () => sums(storage, { payloads: true, except: /catalog\.json$|backup\.json$|\.txt$/ })
    const whole = await payloads()

    await configure('after', ['before'])
    expect(await failureOf(lab, ['key', 'rotate'])).toMatchObject({ exitCode: 5, kind: 'refused' })
    await configure('after', [])
    expect(await failureOf(lab, ['key', 'rotate'])).toMatchObject({ exitCode: 14, kind: 'key' })
    await configure('after', ['after', 'before'])
    const [planned] = await answerOf<Rotated[]>(lab, ['key', 'rotate', '--dry-run'])
    const [rotated] = await answerOf<Rotated[]>(lab, ['key', 'rotate'])
    expect(rotated).toMatchObject({
      repository: 'vault',
      rewrapped: objects,
      current: 0,
      records: 1,
      failures: [],
    })
    expect(planned).toEqual({ ...rotated, dryRun: true })
    const { stdout } = await lab.pgrecall(['key', 'rotate'])
    expect(stdout).toContain(`0 objects got a new header (0 B), ${objects} had it already`)
    expect(await payloads()).toEqual(whole)

    await configure('after', ['before'])
    const restore = ['restore', '-D', join(lab.scratch.path, 'with the old key')]
    expect(await failureOf(lab, restore)).toMatchObject({ exitCode: 14, kind: 'key' })
    await configure('after', ['after'])
    expect(await answerOf(lab, ['show', id])).toMatchObject({ recipients: [pairs.after.recipient] })
    const server = await recover(lab, 'with the new key')
    await server.waitForPromotion()
    expect(await tableChecksums(server)).toEqual(content)
  })

  test.runIf(AGE_PROGRAMS.length > 0)('age reads it with the new key only', async () => {
    const manifest = (await keysOf(storage, backupPrefix('main', id))).find((key) =>
      key.includes('manifest'),
    )!
    const object = (await readObject(storage, manifest))!
    expect(ageDecrypt(pairs.after.file, object).length).toBeGreaterThan(0)
    expect(() => ageDecrypt(pairs.before.file, object)).toThrow()
  })

  test('what another key has is named, and makes the exit code', async () => {
    const key = (await sealedKeys(storage)).at(-1)!
    const stranger = await newIdentity()
    const seal = await new Sealer([stranger.recipient]).seal()
    await storage.put(key, Buffer.concat([seal.header, seal.encryptWhole([])]))
    const { exitCode, stdout } = await lab.pgrecall(['key', 'rotate'])
    expect(exitCode).toBe(14)
    expect(stdout).toContain('1 object cannot be opened with any secret key of this host')
    expect(stdout).toContain(key)
  })
})

test.skipIf(!findPrograms() && !process.env.CI)('where nothing is encrypted, that is told', async () => {
  await using lab = await Lab.create({ start: false })
  expect(await failureOf(lab, ['key', 'rotate'])).toMatchObject({ exitCode: 3, kind: 'config' })
})
