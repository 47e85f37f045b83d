import type { BackupObject } from '../catalog/backup-record.ts'
import { brokenText } from '../catalog/chains.ts'
import { backupPrefix, backupRecordKey, identityKey, walKey } from '../catalog/layout.ts'
import type { LogicalObject, LogicalRecord } from '../catalog/logical-record.ts'
import type { Verifications } from '../catalog/verification-file.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { Events } from '../events.ts'
import { segmentName } from '../postgres/wal-file.ts'
import { FileSet } from '../reconstruction/file-set.ts'
import { backupsAt } from './backups-at.ts'
import type { AnyRecord, Damage, FoundDamage } from './damage.ts'
import { KnownSpans } from './known-spans.ts'
import type { OtherWal } from './listed-wal.ts'
import type { MissingWal } from './missing-wal.ts'
import { forgetOver, isReadSegment } from './over.ts'
import { systemIdentifierOf } from './own-identity.ts'
import { placeOf, segmentAt } from './places.ts'
import type { ReadingPlan, ShelfObject, ShelfSpan } from './plan-reading.ts'
import type { Fault, ReadResult } from './read-job.ts'
import type { Findings } from './readings.ts'
import type { Stock } from './stock.ts'
import type { VerifiedBackup, VerifiedRepository } from './verified.ts'

/** What is known of a backup that is being read. */
interface Read {
  record: AnyRecord | undefined
  result: VerifiedBackup
  /** Of what was taken apart: the files of all its shards, and how many of these. */
  files: FileSet
  shards: number
}

/** Gathers what a verification finds, and notes what was found sound. */
export class FoundFaults implements Findings {
  readonly #cluster: string
  readonly #stock: Stock
  readonly #plan: ReadingPlan
  readonly #unfinished: Pick<Verifications, 'unfinished'>
  readonly #begunAt: string
  readonly #reads: ReadonlyMap<string, Read>
  readonly #damages = new Map<string, FoundDamage>()
  readonly #wal = { files: 0, bytes: 0, sizeOnly: 0 }
  /** Objects that were never read and found sound. */
  readonly #neverRead: Set<string>
  readonly #readWal = new KnownSpans()
  readonly #sizedOthers = new Set<string>()
  #undecoded = 0
  #readBytes = 0
  #neverBytes: number

  constructor(
    cluster: string,
    stock: Stock,
    plan: ReadingPlan,
    { now }: { events: Events; now: () => Date },
    unfinished: Pick<Verifications, 'unfinished'>,
  ) {
    this.#cluster = cluster
    this.#stock = stock
    this.#plan = plan
    this.#unfinished = unfinished
    this.#begunAt = now().toISOString()
    this.#neverBytes = plan.neverBytes
    this.#neverRead = new Set(stock.objects.filter(({ at }) => at === undefined).map(placeName))
    this.#reads = new Map(stock.chosen.map(({ id }) => [id, emptyRead(id)]))
    for (const { id, missing } of stock.chosen) if (missing !== undefined) this.#noteBroken(id, missing)
  }

  backup(id: string): VerifiedBackup {
    return this.#reads.get(id)!.result
  }

  recordOf(id: string): AnyRecord | undefined {
    return this.#reads.get(id)?.record
  }

  hasFaults(id: string): boolean {
    return this.backup(id).faults.length > 0
  }

  /** The record with those objects only that were read now. */
  readPart(record: LogicalRecord): LogicalRecord {
    const read = new Set(this.#plan.objects.get(record.id))
    return { ...record, objects: record.objects.filter((_, index) => read.has(index)) }
  }

  /** The files of a backup all of whose shards were taken apart, and are sound; undefined of any other. */
  filesOf(id: string): FileSet | undefined {
    const { record, files, shards, result } = this.#reads.get(id)!
    const all = (record?.objects as BackupObject[] | undefined)?.filter(({ kind }) => kind === 'shard').length
    return result.faults.length === 0 && shards > 0 && shards === all ? files : undefined
  }

  /** @returns everything that is damaged, in the order in which it was found */
  damages(): FoundDamage[] {
    return [...this.#damages.values()]
  }

  note({ key, reason, isContent }: Fault, object?: BackupObject | LogicalObject): void {
    const place = placeOf(this.#cluster, key)
    if (place) this.#add({ key, reason, place, object, isContent })
  }

  /** What is in an object was looked at beside the reading, and is what it must be. */
  noteProven(key: string): void {
    if (!this.#damages.has(key)) this.#stock.known.noteSound(key, { isContent: true })
  }

  /** What turned out to be no damage. */
  drop(key: string): void {
    this.#damages.delete(key)
    for (const { result } of this.#reads.values())
      result.faults = result.faults.filter((fault) => fault.key !== key)
  }

  noteMissing(span: MissingWal): void {
    const { walSegmentBytes } = this.#stock.catalog
    const name = (number: bigint) => segmentName(span.timeline, number, walSegmentBytes)
    const count = Number(span.last - span.first) + 1
    const reason =
      count === 1
        ? 'it is missing from the archive'
        : `it and the ${count - 1} behind it, up to ${name(span.last)}, are missing from the archive`
    this.#add({
      key: walKey(this.#cluster, name(span.first), this.#stock.walForm),
      reason,
      place: { kind: 'missing', ...span },
    })
  }

  onIdentity(): void {
    const { catalog } = this.#stock
    const said = systemIdentifierOf(catalog)
    if (catalog.systemIdentifier === undefined || said === catalog.systemIdentifier) return
    const reason = `it says that the cluster is ${catalog.systemIdentifier}, and all backups are of ${said}`
    this.note({ key: identityKey(this.#cluster), reason })
  }

  onRecord(record: AnyRecord): void {
    const read = this.#reads.get(record.id)!
    read.record = record
    read.result.allObjects = record.objects.length
  }

  onDamagedRecord(id: string, error: unknown): void {
    if (!(error instanceof PgrecallError) || error.kind !== 'damaged') throw error
    this.note({ key: backupRecordKey(this.#cluster, id), reason: reasonOf(error) })
  }

  onObject(record: AnyRecord, index: number, result: ReadResult): void {
    const read = this.#reads.get(record.id)!
    const object = record.objects[index] as BackupObject | LogicalObject
    read.result.objects += result.objects
    read.result.bytes += result.bytes
    this.#readBytes += result.bytes
    this.#undecoded += result.undecoded
    if (result.files) {
      read.files.join(result.files)
      read.shards++
    }
    for (const fault of result.faults) this.note(fault, object)
    const isSound = result.faults.length === 0
    if (isSound)
      this.#stock.known.noteSound(backupPrefix(this.#cluster, record.id) + object.name, {
        isContent: result.files !== undefined,
      })
    this.#noteObject(record, index, isSound)
  }

  onWal(span: ShelfSpan, first: bigint, last: bigint, result: ReadResult): void {
    const { known, catalog } = this.#stock
    const { timeline } = span
    this.#wal.files += result.objects
    this.#wal.bytes += result.bytes
    this.#wal.sizeOnly += result.sizeOnly
    this.#readBytes += result.bytes
    const read = { timeline, first, last, at: this.#begunAt }
    // Of some only the size was seen, and it is not told of which.
    const isRead = result.sizeOnly === 0
    if (isRead) known.noteWal(read)
    else known.noteWalSizes(read)
    for (const fault of result.faults) {
      this.note(fault)
      const { number } = segmentAt(this.#cluster, fault.key, catalog.walSegmentBytes)!
      known.noteWal({ timeline, first: number, last: number, at: undefined })
    }
    if (isRead) this.#readWal.note(read)
    known.forgetDamage(
      (damaged) => !this.#damages.has(damaged.key) && isReadSegment(damaged, this.#readWal, this.#stock),
    )
    // As it was counted when the reading was planned: by shares of what all of a run takes up.
    const share = Number(last - first + 1n) / Number(span.last - span.first + 1n)
    if (span.at === undefined && isRead) this.#neverBytes -= Math.round(span.bytes * share)
  }

  onOther({ key, bytes }: OtherWal, isSizeOnly: boolean): void {
    this.#wal.files++
    this.#wal.bytes += bytes
    if (!isSizeOnly) return
    this.#wal.sizeOnly++
    this.#sizedOthers.add(key)
  }

  async onPause(): Promise<void> {
    await this.#stock.known.saveNowAndThen(() => this.#facts(true))
  }

  /** What was healed was verified, too. */
  noteHealed(damaged: readonly Damage[]): void {
    const { known } = this.#stock
    for (const { key, mend } of damaged) {
      const place = this.#damages.get(key)?.place
      if (mend.outcome !== 'healed' || !place) continue
      known.noteSound(key)
      this.#damages.delete(key)
      if (place.kind === 'missing') known.noteWal({ ...place, at: this.#begunAt })
      const record = place.kind === 'object' ? this.recordOf(place.backup) : undefined
      const index = record?.objects.findIndex((object) => key.endsWith(`/${object.name}`)) ?? -1
      if (record && index >= 0) this.#noteObject(record, index, true)
    }
  }

  /** @param isUnfinished whether not all was read that was to be */
  async remember({ isUnfinished = false } = {}): Promise<void> {
    const { known, isAll } = this.#stock
    for (const damage of this.#damages.values()) known.noteDamage(damage)
    const isLeft = (key: string) => this.#damages.has(key) || this.#sizedOthers.has(key)
    if (isAll && !isUnfinished) forgetOver(this.#stock, (id) => this.recordOf(id), isLeft)
    await known.save(this.#facts(isUnfinished))
  }

  result(): Omit<VerifiedRepository, 'damaged'> {
    const { isAll, known, chosen } = this.#stock
    const oldestAt = known.oldest()
    const backups = chosen.map(({ id }) => this.backup(id))
    for (const { faults } of backups) faults.sort((a, b) => (a.key < b.key ? -1 : 1))
    return {
      backups,
      wal: this.#wal,
      undecoded: this.#undecoded,
      readBytes: this.#readBytes,
      ...(isAll && { totalBytes: this.#plan.totalBytes, neverBytes: Math.max(0, this.#neverBytes) }),
      ...(isAll && oldestAt !== undefined && { oldestAt }),
    }
  }

  #facts(isUnfinished: boolean): Partial<Verifications> {
    const { isAll, known } = this.#stock
    const oldestAt = known.oldest()
    return {
      ...(isAll && { bytes: this.#plan.totalBytes, neverBytes: Math.max(0, this.#neverBytes) }),
      ...(oldestAt !== undefined && { oldestAt }),
      ...(isUnfinished && this.#unfinished),
    }
  }

  /** A link that is missing can be brought back; where another backup is in its place, that one is not touched. */
  #noteBroken(id: string, missing: string): void {
    const reason = `it ${brokenText(missing)}`
    this.backup(id).faults.push({ key: backupRecordKey(this.#cluster, id), reason })
    const isThere = this.#stock.catalog.backups.some((backup) => backup.id === missing)
    const damage: FoundDamage = isThere
      ? { key: backupPrefix(this.#cluster, id), reason, place: { kind: 'backup', backup: id } }
      : {
          key: backupRecordKey(this.#cluster, missing),
          reason: `it is missing, and ${id} builds upon it`,
          place: { kind: 'record', backup: missing },
        }
    this.#damages.set(damage.key, damage)
  }

  #noteObject(record: AnyRecord, index: number, isSound: boolean): void {
    const place = placeName({ backup: record.id, index })
    const wasUnknown = this.#neverRead.has(place)
    if (isSound && wasUnknown) this.#neverRead.delete(place)
    if (!isSound) this.#neverRead.add(place)
    if (isSound === wasUnknown) this.#neverBytes += (isSound ? -1 : 1) * record.objects[index]!.bytes
    this.#stock.known.noteObject(record, index, isSound ? this.#begunAt : undefined)
  }

  #add(damage: FoundDamage): void {
    if (this.#damages.has(damage.key)) return
    this.#damages.set(damage.key, damage)
    const { key, reason, place } = damage
    for (const id of backupsAt(place, this.#stock.chosen, this.#stock.catalog.walSegmentBytes))
      this.#reads.get(id)?.result.faults.push({ key, reason })
  }
}

const placeName = ({ backup, index }: Pick<ShelfObject, 'backup' | 'index'>) => `${backup}/${index}`

function emptyRead(id: string): Read {
  const result = { id, objects: 0, bytes: 0, allObjects: 0, faults: [] }
  return { record: undefined, result, files: new FileSet(), shards: 0 }
}
