import { ListObjectsV2Command } from '@aws-sdk/client-s3'
import { newIdentity } from '../../src/archive/age.ts'
import { markRepository } from '../../src/catalog/identity.ts'
import { openStorage } from '../../src/storage/open.ts'
import { Gateway } from '../../test/lab/gateway.ts'
import type { PgbackrestPlace } from '../tools/pgbackrest.ts'
import type { PgrecallPlace } from '../tools/pgrecall.ts'
import type { WalPlace } from '../wal/tools.ts'

/** pgBackRest encrypts with a passphrase, in CBC mode. */
const CIPHER = ['repo1-cipher-type=aes-256-cbc', 'repo1-cipher-pass=of-the-benchmark']

/** One gateway for all tools, which reach it by TLS: pgBackRest knows no other way. Each prepares a bucket of its own. */
export class BenchStore implements AsyncDisposable {
  readonly gateway: Gateway
  readonly #certificate: string
  /** What the tool that runs now works in. */
  #bucket = ''

  private constructor(gateway: Gateway, certificate: string) {
    this.gateway = gateway
    this.#certificate = certificate
  }

  static async start(): Promise<BenchStore> {
    const gateway = await Gateway.start({ tls: true })
    return new BenchStore(gateway, gateway.certificate!)
  }

  /** @param encryption as pgrecall's configuration has it */
  pgrecall(name: string, encryption?: object): PgrecallPlace {
    return {
      name,
      make: async () => ({ ...(await this.#makeRepository()), ...(encryption && { encryption }) }),
      storedBytes: () => this.#bytesBelow('main/backups/'),
    }
  }

  pgbackrest(name: string, isEncrypted = false): PgbackrestPlace {
    return {
      name,
      lines: async () => [...(await this.#pgbackrestLines()), ...(isEncrypted ? CIPHER : [])],
      storedBytes: () => this.#bytesBelow('repository/backup/'),
    }
  }

  wal(suffix: string, encryption?: object): WalPlace {
    return {
      suffix,
      pgrecall: async () => ({ ...(await this.#makeRepository()), ...(encryption && { encryption }) }),
      pgbackrest: () => this.#pgbackrestLines(),
      storedBytes: (_home, tool) =>
        this.#bytesBelow(tool === 'pgrecall' ? 'main/wal/' : 'repository/archive/'),
    }
  }

  /** A key that the lab's user can read. @returns the encryption, as the configuration has it */
  async encryption(): Promise<object> {
    const { identity, recipient } = await newIdentity()
    const identityFile = await this.gateway.scratch.file('identity.txt', `${identity}\n`)
    return { recipients: [recipient], identityFile }
  }

  async #makeRepository(): Promise<object> {
    this.#bucket = await this.gateway.bucket()
    const { endpoint, credentialsFile } = this.gateway
    const address = { bucket: this.#bucket, endpoint, forcePathStyle: true, credentialsFile }
    const caFile = this.#certificate
    await markRepository(openStorage(this.gateway.address(this.#bucket, { caFile })))
    return { type: 's3', region: 'us-east-1', ...address, caFile }
  }

  async #pgbackrestLines(): Promise<string[]> {
    this.#bucket = await this.gateway.bucket()
    const { hostname, port } = new URL(this.gateway.endpoint)
    return [
      'repo1-type=s3',
      'repo1-path=/repository',
      `repo1-s3-bucket=${this.#bucket}`,
      `repo1-s3-endpoint=${hostname}`,
      'repo1-s3-region=us-east-1',
      `repo1-s3-key=${this.gateway.accessKeyId}`,
      `repo1-s3-key-secret=${this.gateway.secretAccessKey}`,
      'repo1-s3-uri-style=path',
      `repo1-storage-port=${port}`,
      // It does not compare a certificate with an address without a name.
      'repo1-storage-verify-tls=n',
    ]
  }

  async #bytesBelow(prefix: string): Promise<number> {
    let bytes = 0
    for (let token: string | undefined, isFirst = true; isFirst || token; isFirst = false) {
      const page = await this.gateway.client.send(
        new ListObjectsV2Command({ Bucket: this.#bucket, Prefix: prefix, ContinuationToken: token }),
      )
      for (const { Size = 0 } of page.Contents ?? []) bytes += Size
      token = page.NextContinuationToken
    }
    return bytes
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.gateway[Symbol.asyncDispose]()
  }
}
