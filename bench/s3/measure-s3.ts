import { findPrograms } from '../../test/lab/programs.ts'
import { mixedData } from '../data.ts'
import { loadAverage, machineFacts } from '../machine.ts'
import { measureSection } from '../measure-section.ts'
import type { S3BenchOptions } from '../options.ts'
import { type Run, reportAsJson, reportAsText, writeBetweenMarks } from '../report.ts'
import { pgbackrestIn } from '../tools/pgbackrest.ts'
import { encryptedOnDisk, pgrecall, pgrecallIn } from '../tools/pgrecall.ts'
import { WalGround } from '../wal/ground.ts'
import { measurePushOnly } from '../wal/push.ts'
import { measureReplay } from '../wal/replay.ts'
import { sectionAsJson, sectionAsText } from '../wal/sections.ts'
import { pgbackrest as pgbackrestWal, pgrecall as pgrecallWal } from '../wal/tools.ts'
import { measureListing } from './listing.ts'
import { BenchStore } from './store.ts'

/** Everything against one gateway on this machine, and what encryption costs on the disk too. */
export async function measureS3(options: S3BenchOptions): Promise<void> {
  if (options.folder) process.env.TMPDIR = options.folder
  const programs = findPrograms()
  if (!programs)
    throw new Error('no PostgreSQL server found: install one, or set PG_BIN to the folder of its programs')
  const machine = await machineFacts(programs)
  await using store = await BenchStore.start()
  if (options.only.includes('backup'))
    await publish('backup', await backups(store, machine, options), options)
  if (options.only.includes('wal')) await publish('wal', await wal(store, machine, options), options)
  if (options.only.includes('list'))
    await publish('list', await measureListing(store, machine, options), options)
}

/** What one part found, for people and for programs. */
export interface Part {
  text: string
  json: string
}

async function backups(
  store: BenchStore,
  machine: Map<string, string>,
  options: S3BenchOptions,
): Promise<Part> {
  const encryption = await store.encryption()
  const size = options.size >= 1e9 ? `${options.size / 1e9} GB` : `${options.size / 1e6} MB`
  const fill = mixedData(options.size)
  const operations: Run['operation'][] = ['backup', 'restore']
  const inBucket = [
    pgrecallIn(store.pgrecall('pgrecall')),
    pgrecallIn(store.pgrecall('pgrecall, encrypted', encryption)),
    pgbackrestIn(store.pgbackrest('pgbackrest')),
    pgbackrestIn(store.pgbackrest('pgbackrest, encrypted', true)),
  ]
  const onDisk = [pgrecall, pgrecallIn(encryptedOnDisk(encryption))]
  const used = new Map<string, string>()
  const runs = [
    ...(await measureSection({ data: `${size}, S3`, fill, operations }, inBucket, options, used)),
    ...(await measureSection({ data: `${size}, disk`, fill, operations }, onDisk, options, used)),
  ]
  const facts = new Map([...machine, ...used, ['load average after', loadAverage()]])
  const report = { machine: facts, runs }
  return { text: reportAsText(report), json: reportAsJson(report) }
}

async function wal(
  store: BenchStore,
  machine: Map<string, string>,
  { segments, rounds, jobs }: S3BenchOptions,
): Promise<Part> {
  const say = (text: string) => console.error(text)
  say(`making ${segments} segments of WAL`)
  await using ground = await WalGround.create(segments, jobs)
  const plain = store.wal('')
  const tools = [
    await pgrecallWal(ground, plain),
    await pgrecallWal(ground, store.wal(', encrypted', await store.encryption())),
    pgbackrestWal(ground, 'async', plain),
    pgbackrestWal(ground, 'sync', plain),
  ]
  const facts = new Map([...machine, ['WAL', `${ground.segments.length} segments of 16 MiB, S3`]])
  const push = await measurePushOnly({ ground, tools, rounds, filled: new Set(), say })
  const replay = await measureReplay({ ground, tools: tools.slice(0, 3), rounds, filled: new Set(), say })
  return {
    text: `Archiving\n\n${sectionAsText(facts, push)}\n\nReplay\n\n${sectionAsText(facts, replay)}`,
    json: `${sectionAsJson('push', facts, push)}\n${sectionAsJson('replay', facts, replay)}`,
  }
}

async function publish(part: string, { text, json }: Part, options: S3BenchOptions): Promise<void> {
  if (options.write)
    await writeBetweenMarks(`<!-- table: npm run bench -- s3 --only ${part} --write -->`, text)
  console.log(options.json ? json : `\n${text}`)
}
