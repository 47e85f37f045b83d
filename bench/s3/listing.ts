import { stringify } from 'yaml'
import { claimIdentity } from '../../src/catalog/identity.ts'
import { backupId, backupPrefix } from '../../src/catalog/layout.ts'
import { encodeRecord } from '../../src/catalog/record-file.ts'
import { openStorage } from '../../src/storage/open.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { pgrecall } from '../../test/lab/product.ts'
import { Scratch } from '../../test/lab/scratch.ts'
import type { S3BenchOptions } from '../options.ts'
import { median } from '../report.ts'
import { SEGMENT_BYTES, storedRecord } from '../stored-record.ts'
import type { Part } from './measure-s3.ts'
import type { BenchStore } from './store.ts'

const CLUSTERS = 5
const BACKUPS = 10_000
const AT_ONCE = 32

/** How long `list` takes on a bucket with many backups, when the catalogs are there and when they are not. */
export async function measureListing(
  store: BenchStore,
  machine: Map<string, string>,
  options: S3BenchOptions,
): Promise<Part> {
  await using scratch = await Scratch.create('bench')
  const { gateway } = store
  const bucket = await gateway.bucket()
  const caFile = gateway.certificate!
  const storage = openStorage(gateway.address(bucket, { caFile }))
  const clusters = Array.from({ length: CLUSTERS }, (_, index) => `cluster${index + 1}`)
  console.error(`making ${BACKUPS} backups of ${CLUSTERS} clusters`)
  let objects = 0
  for (const [index, cluster] of clusters.entries()) {
    objects += await fill(storage, cluster, String(7_000_000_000_000_000_000n + BigInt(index)))
  }
  const { endpoint, credentialsFile } = gateway
  const configuration = {
    repositories: {
      store: {
        type: 's3',
        bucket,
        endpoint,
        forcePathStyle: true,
        region: 'us-east-1',
        credentialsFile,
        caFile,
      },
    },
    clusters: Object.fromEntries(clusters.map((cluster) => [cluster, { repositories: ['store'] }])),
  }
  const configFile = await scratch.file('pgrecall.yaml', stringify(configuration))
  const cold = await timeOf(configFile, ['list'])
  for (const cluster of clusters) await timeOf(configFile, ['--cluster', cluster, 'catalog', 'rebuild'])
  const all: number[] = []
  const one: number[] = []
  for (let round = 0; round < Math.max(3, options.rounds); round++) {
    all.push(await timeOf(configFile, ['list']))
    one.push(await timeOf(configFile, ['--cluster', clusters[0]!, 'list']))
  }
  const facts = [...machine].map(([name, value]) => `${name}: ${value}`).join('; ')
  const seconds = (values: number[]) =>
    `${median(values).toFixed(2)} s (${Math.min(...values).toFixed(2)} to ${Math.max(...values).toFixed(2)})`
  const lines = [
    `- all ${CLUSTERS} clusters, ${BACKUPS} backups, ${objects} objects: ${seconds(all)}`,
    `- one of the clusters, ${BACKUPS / CLUSTERS} backups: ${seconds(one)}`,
    `- all, before any catalog was written: ${cold.toFixed(2)} s`,
  ]
  return { text: [facts, '', ...lines].join('\n'), json: JSON.stringify({ all, one, cold, objects }) }
}

async function timeOf(configFile: string, args: string[]): Promise<number> {
  const began = performance.now()
  const { exitCode, stderr } = await pgrecall(['--config', configFile, ...args], { timeoutMs: 600_000 })
  if (exitCode !== 0) throw new Error(stderr)
  return (performance.now() - began) / 1000
}

/** Small objects, as many and with the names that real backups have. @returns how many */
async function fill(storage: Storage, cluster: string, systemIdentifier: string): Promise<number> {
  await claimIdentity(storage, cluster, { systemIdentifier, walSegmentBytes: SEGMENT_BYTES })
  const count = BACKUPS / CLUSTERS
  const ids = Array.from({ length: count }, (_, index) =>
    backupId(new Date(Date.UTC(2020, 0, 1) + index * 6 * 60 * 60 * 1000), 'full'),
  )
  let objects = 0
  const queue = ids.values()
  const lane = async () => {
    for (const id of queue) {
      const record = storedRecord({ id, cluster, systemIdentifier })
      const folder = backupPrefix(cluster, id)
      for (const { name } of record.objects) await storage.put(folder + name, Buffer.from('x'))
      await storage.put(`${folder}backup.json`, encodeRecord(record))
      objects += record.objects.length + 1
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, lane))
  return objects
}
