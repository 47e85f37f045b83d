import { createHash } from 'node:crypto'
import { decode, methodOf } from '../archive/codec.ts'
import { type MemberSink, type TarMember, TarReader } from '../archive/tar.ts'
import { pathInCluster } from '../catalog/layout.ts'
import { isAsRecorded, ObjectSum } from '../catalog/object-sum.ts'
import type { Repository } from '../catalog/repository.ts'
import { isSealed, readContent } from '../catalog/sealed-object.ts'
import { type CopiedFile, readShardIndex } from '../catalog/shard-index.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import { formatLsn } from '../postgres/lsn.ts'
import { PageChecker } from '../postgres/page-checksum.ts'
import { numberOf, parseWalFile, segmentStart } from '../postgres/wal-file.ts'
import { describeSegmentMismatch, readSegmentHeader } from '../postgres/wal-page.ts'
import type { Carry } from '../postgres/wal-record.ts'
import { readRecords } from '../postgres/wal-records.ts'
import { FileSet } from '../reconstruction/file-set.ts'
import { MemberPages } from './member-pages.ts'
import { nothingRead, type ReadResult, type ShardJob } from './read-job.ts'

/** A multiple of every size of a page. */
const PAGES_BYTES = 1024 * 1024

/**
 * Takes a shard apart: its stored bytes have the sum of the record, its members are those of its index, with their sizes and
 * sums, incremental files are such, pages have their checksums, and segments inside hold the WAL of their names.
 * @param onBytes hears of stored bytes; may throw to stop
 * @throws PgrecallError `repository`; `key` where it is encrypted and no key fits
 */
export async function verifyShard(
  repository: Repository,
  job: ShardJob,
  onBytes: (count: number) => void,
): Promise<ReadResult> {
  const { key, object } = job
  const result = { ...nothingRead(), objects: 1 }
  const members = new Members(job, await listedFiles(repository, job))
  const reader = new TarReader((member) => members.take(member))
  const sum = new ObjectSum(isSealed(key))
  const onStored = (chunk: Buffer) => {
    result.bytes += chunk.length
    onBytes(chunk.length)
    sum.push(chunk)
  }
  const faulty = (reason: string) => ({ ...result, faults: [{ key, reason }] })
  try {
    const content = await readContent(repository, key, { onStored })
    if (!content) return faulty('it is missing')
    for await (const plain of decode(methodOf(object.name), content)) reader.push(plain)
    reader.finish()
    if (!isAsRecorded(object, sum.end())) return faulty('its bytes are not those that were stored')
  } catch (error) {
    if (error instanceof PgrecallError && error.kind !== 'damaged') throw error
    return faulty(`it cannot be decoded: ${reasonOf(error)}`)
  }
  members.end()
  const faults = members.faults.map((reason) => ({ key, reason, isContent: true as const }))
  return { ...result, faults, files: members.files.facts() }
}

/** At most 50,000, as a shard has no more; undefined where they cannot be read, which whoever reads the index tells. */
async function listedFiles(
  repository: Repository,
  { index }: ShardJob,
): Promise<Pick<CopiedFile, 'path' | 'size' | 'sha256'>[] | undefined> {
  if (!index) return undefined
  try {
    const found = await readShardIndex(repository, index.key)
    if (!found) return undefined
    const files: Pick<CopiedFile, 'path' | 'size' | 'sha256'>[] = []
    for await (const { path, size, sha256 } of found.files) files.push({ path, size, sha256 })
    return files
  } catch (error) {
    if (error instanceof PgrecallError && error.kind !== 'damaged') throw error
    return undefined
  }
}

/** So many members that are wrong are named. */
const MOST_NAMED = 10

class Members {
  readonly files = new FileSet()
  readonly faults: string[] = []
  readonly #job: ShardJob
  readonly #listed: readonly Pick<CopiedFile, 'path' | 'size' | 'sha256'>[] | undefined
  readonly #checker = new PageChecker(PAGES_BYTES)
  #next = 0
  #carry: Carry | undefined

  constructor(job: ShardJob, listed: readonly Pick<CopiedFile, 'path' | 'size' | 'sha256'>[] | undefined) {
    this.#job = job
    this.#listed = listed
  }

  take(member: TarMember): MemberSink | undefined {
    if (member.type === 'directory') return undefined
    const { group, name } = this.#job.object
    const isWal = group === 'wal'
    const { backup } = this.#job
    const path = pathInCluster(group ?? 'base', member.path)
    const hasChecksums = backup.hasChecksums && !backup.damaged.includes(path)
    const pages = isWal ? undefined : MemberPages.of(this.#checker, member.path, hasChecksums, backup)
    const segment: Buffer[] = []
    const sum = createHash('sha256')
    return {
      write: (bytes) => {
        sum.update(bytes)
        pages?.push(bytes)
        if (isWal) segment.push(Buffer.from(bytes))
      },
      end: () => {
        const sha256 = sum.digest('hex')
        if (!isWal) this.files.add(path, member.size, sha256)
        this.#compare(member, sha256)
        const wrong = isWal ? this.#wrongWal(member.path, Buffer.concat(segment)) : pages?.end()
        if (wrong !== undefined) this.#fault(`${path} in ${name}: ${wrong}`)
      },
    }
  }

  end(): void {
    const left = this.#listed?.[this.#next]
    if (left) this.#fault(`${left.path}, which its index lists, is not in it`)
  }

  #compare({ path, size }: TarMember, sha256: string): void {
    if (!this.#listed) return
    const listed = this.#listed[this.#next++]
    if (listed?.path !== path)
      this.#fault(`it has ${path} where its index has ${listed?.path ?? 'no more files'}`)
    else if (listed.size !== size) this.#fault(`${path} has ${size} bytes, and in its index ${listed.size}`)
    else if (listed.sha256 !== sha256) this.#fault(`${path} has another SHA-256 than in its index`)
  }

  /** What is wrong with a file of `pg_wal` inside of the backup. */
  #wrongWal(path: string, bytes: Buffer): string | undefined {
    const { systemIdentifier, stopFile } = this.#job.backup
    const file = parseWalFile(path.slice(path.lastIndexOf('/') + 1))
    if (file?.kind !== 'segment') return undefined
    const mismatch = describeSegmentMismatch(file, bytes, systemIdentifier)
    if (mismatch !== undefined) return mismatch
    const { segmentBytes } = readSegmentHeader(bytes)!
    const begin = segmentStart(numberOf(file, segmentBytes), segmentBytes)
    const { carry, validUntil } = readRecords(bytes, {
      segmentStart: begin,
      carry: this.#carry,
      everyCrc: true,
    })
    this.#carry = carry
    const isLast = file.name.slice(8) >= stopFile.slice(8)
    return carry || isLast
      ? undefined
      : `its records end at ${formatLsn(validUntil)}, before those of the backup`
  }

  #fault(reason: string): void {
    if (this.faults.length < MOST_NAMED) this.faults.push(reason)
  }
}
