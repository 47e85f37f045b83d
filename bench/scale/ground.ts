import { join } from 'node:path'
import { execa } from 'execa'
import { stringify } from 'yaml'
import { claimIdentity } from '../../src/catalog/identity.ts'
import { catalogKey } from '../../src/catalog/layout.ts'
import { segmentName } from '../../src/postgres/wal-file.ts'
import { openStorage } from '../../src/storage/open.ts'
import { readObject, type Storage } from '../../src/storage/storage.ts'
import { Cluster } from '../../test/lab/cluster.ts'
import { Gateway } from '../../test/lab/gateway.ts'
import { product } from '../../test/lab/product.ts'
import { Scratch } from '../../test/lab/scratch.ts'
import { SEGMENT_BYTES } from '../stored-record.ts'
import { CLUSTER, type Shape, storeArchive } from './archive.ts'

/** What comes after the catalog was written, for a look that finds it behind, with a backup. */
const LATE_SEGMENTS = 300
/** Of the server itself: what status reads to tell the last commit. */
const REAL_SEGMENTS = 9
/** For years, as it is kept by who has so many. */
const RETENTION = { full: 4, window: '30d', daily: 30, weekly: 26, monthly: 24, yearly: 5, wal: '60d' }

export interface Size extends Pick<Shape, 'backups' | 'segments' | 'gaps'> {
  isInBucket: boolean
}

/** An archive that has grown for years, the server that goes on with it, and the catalog as it was a little before. */
export class ScaleGround implements AsyncDisposable {
  readonly scratch: Scratch
  readonly configFile: string
  readonly #storage: Storage
  readonly #owned: AsyncDisposableStack
  #earlier: Buffer | undefined

  private constructor(scratch: Scratch, configFile: string, storage: Storage, owned: AsyncDisposableStack) {
    this.scratch = scratch
    this.configFile = configFile
    this.#storage = storage
    this.#owned = owned
  }

  /** @param writeCatalog is called when the last backup and the last segments are not there yet */
  static async create(
    size: Size,
    writeCatalog: (ground: ScaleGround) => Promise<void>,
  ): Promise<ScaleGround> {
    await using owned = new AsyncDisposableStack()
    const scratch = owned.use(await Scratch.create('scale'))
    const configFile = join(scratch.path, 'pgrecall.yaml')
    const { storage, repository } = await place(size, scratch, owned)
    const { launcher } = await product()
    const cluster = owned.use(
      await Cluster.create({
        within: scratch,
        fresh: true,
        start: false,
        archiveCommand: `'${launcher}' --config '${configFile}' wal-push "%p"`,
      }),
    )
    const systemIdentifier = await beginAt(cluster, segmentName(1, BigInt(size.segments + 1), SEGMENT_BYTES))
    const { dataDirectory, host, port, user } = cluster
    const connection = { host, port, user }
    const main = { dataDirectory, connection, repositories: ['store'], retention: RETENTION }
    const configuration = { repositories: { store: repository }, clusters: { [CLUSTER]: main } }
    await scratch.file('pgrecall.yaml', stringify(configuration))
    await claimIdentity(storage, CLUSTER, { systemIdentifier, walSegmentBytes: SEGMENT_BYTES })

    const ground = new ScaleGround(scratch, configFile, storage, owned.move())
    try {
      await ground.#fill({ ...size, systemIdentifier, now: new Date() }, cluster, writeCatalog)
    } catch (error) {
      await ground[Symbol.asyncDispose]()
      throw error
    }
    return ground
  }

  async #fill(
    shape: Shape,
    cluster: Cluster,
    writeCatalog: (ground: ScaleGround) => Promise<void>,
  ): Promise<void> {
    const [backups, segments] = [shape.backups - 1, shape.segments - LATE_SEGMENTS]
    await storeArchive(this.#storage, shape, { from: 0, count: backups }, { from: 1, count: segments })
    await writeCatalog(this)
    this.#earlier = await readObject(this.#storage, catalogKey(CLUSTER))
    const late = { from: segments + 1, count: LATE_SEGMENTS }
    await storeArchive(this.#storage, shape, { from: backups, count: 1 }, late)
    await cluster.start()
    await cluster.sql('CREATE TABLE grown (n integer)')
    for (let count = 0; count < REAL_SEGMENTS; count++) {
      await cluster.sql('INSERT INTO grown SELECT generate_series(1, 10000)')
      await cluster.archiveWal()
    }
  }

  /** Puts the catalog back as it was before the last backup and the last segments came. */
  async forget(): Promise<void> {
    await this.#storage.put(catalogKey(CLUSTER), this.#earlier!)
  }

  /** Arrow function, as `measure` takes it out of the object: what the server does meanwhile does not count. */
  serverPid = (): undefined => undefined

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned.disposeAsync()
  }
}

/** @returns how the configuration names it, too */
async function place(
  { isInBucket }: Size,
  scratch: Scratch,
  owned: AsyncDisposableStack,
): Promise<{ storage: Storage; repository: object }> {
  if (!isInBucket) {
    const address = { type: 'local' as const, path: await scratch.folder('repository') }
    return { storage: openStorage(address), repository: address }
  }
  const gateway = owned.use(await Gateway.start())
  const { endpoint, credentialsFile } = gateway
  const bucket = await gateway.bucket()
  return {
    storage: openStorage(gateway.address(bucket)),
    repository: { type: 's3', bucket, endpoint, forcePathStyle: true, region: 'us-east-1', credentialsFile },
  }
}

/** Has a new cluster write its WAL from a segment on. @returns its system identifier */
async function beginAt({ programs, dataDirectory, childOptions }: Cluster, segment: string): Promise<string> {
  const reset = ['--next-wal-file', segment, '--pgdata', dataDirectory]
  await execa(programs.path('pg_resetwal'), reset, childOptions)
  const { stdout } = await execa(programs.path('pg_controldata'), [dataDirectory], childOptions)
  return /^Database system identifier:\s+(\d+)$/m.exec(stdout)![1]!
}
