import { randomUUID } from 'node:crypto'
import { FORMAT, readIdentity } from '../catalog/identity.ts'
import { backupRecordKey, backupsPrefix, identityKey, isBackupId, isLogicalId } from '../catalog/layout.ts'
import type { Lock } from '../catalog/lock.ts'
import type { Repository } from '../catalog/repository.ts'
import { isSealed } from '../catalog/sealed-object.ts'
import type { Span } from '../catalog/segment-spans.ts'
import { statWalFile } from '../catalog/wal-object.ts'
import { copyWalFile } from '../copy/copy-wal.ts'
import type { Passage } from '../copy/passage.ts'
import type { StoredWal } from '../copy/plan.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import { numberOf, parseWalFile, segmentName, type WalFile } from '../postgres/wal-file.ts'
import { type ObjectFacts, readObject } from '../storage/storage.ts'
import type { AnyRecord, FoundDamage, Mend } from './damage.ts'
import { requireOneHistory, type StoredHistory } from './one-history.ts'
import { repairObjects, repairText } from './repair-backup.ts'
import { repairRecord } from './repair-record.ts'
import { readAnyRecord, type Twins } from './twin.ts'
import { verifyObject } from './verify-object.ts'
import { verifyWalFile } from './verify-wal.ts'

/** zstd's, for WAL that gets another form. */
const LEVEL = 1

type WalSpan = Span & { timeline: number }

export interface RepairContext extends StoredHistory {
  cluster: string
  twins: Twins
  lock: Lock
  signal: AbortSignal
  onBytes: (count: number) => void
}

/**
 * Mends one damaged object in place: looks once more whether it is damaged, reads a copy of another repository, checks it, writes it
 * durably over the damaged one, and verifies that. What is sound is never written over, and nothing is removed before its
 * replacement is there. May be killed at any moment and repeated.
 * @returns what came of it; `lost` where it cannot be healed, with the reason
 */
export async function repair(
  repository: Repository,
  damage: FoundDamage,
  found: Mend,
  context: RepairContext,
): Promise<Mend> {
  const work = new Repair(repository, damage, context)
  if (await work.isSound()) return { outcome: 'healed', text: 'it is sound now; nothing was written' }
  const refusals: string[] = []
  const isFirst = ({ name }: Repository) => name === found.repository
  const known = context.twins.others
  const others = [...known.filter(isFirst), ...known.filter((each) => !isFirst(each))]
  for (const from of [undefined, ...others]) {
    try {
      const before = await work.lockedUntil()
      if (!(from ? await work.from(from) : await work.anew())) continue
      const reason = await work.faultNow()
      if (reason !== undefined) throw new PgrecallError('damaged', `what was written is not right: ${reason}`)
      const locked = before ? `; the damaged version stays locked until ${before.toISOString()}` : ''
      const origin = from ? `from repository "${from.name}"` : 'made anew'
      const text = `healed, ${origin}${work.remark}${locked}`
      return { outcome: 'healed', ...(from && { repository: from.name }), text }
    } catch (error) {
      context.signal.throwIfAborted()
      if (!(error instanceof PgrecallError) || error.kind === 'busy') throw error
      refusals.push(reasonOf(error))
    }
  }
  return { outcome: 'lost', text: refusals[0] ?? found.text }
}

class Repair {
  readonly #to: Repository
  readonly #damage: FoundDamage
  readonly #context: RepairContext
  #record: AnyRecord | undefined
  /** What else is to be said of what was brought. */
  remark = ''

  constructor(to: Repository, damage: FoundDamage, context: RepairContext) {
    this.#to = to
    this.#damage = damage
    this.#context = context
  }

  /** Whether what was found damaged is sound now: somebody else has mended it, or the disk had a bad moment. */
  async isSound(): Promise<boolean> {
    return (await this.faultNow()) === undefined
  }

  async lockedUntil(): Promise<Date | undefined> {
    return (await this.#to.storage.stat(this.#damage.key))?.lockedUntil
  }

  async faultNow(): Promise<string | undefined> {
    const { place, key } = this.#damage
    switch (place.kind) {
      case 'object':
        return this.#faultOfObject(place.backup, place.name)
      case 'record':
        return readAnyRecord(this.#to, this.#context.cluster, place.backup).then(
          (record) => (record ? undefined : 'it is missing'),
          reasonOf,
        )
      case 'wal':
        if (place.file.kind === 'dropped' || place.file.kind === 'receiving') return 'it is damaged'
        return (await verifyWalFile(this.#to, this.#context.cluster, place.file.name)).reason
      case 'missing':
        for (const { name } of this.#segments(place)) {
          const { reason } = await verifyWalFile(this.#to, this.#context.cluster, name)
          if (reason !== undefined) return `${name}: ${reason}`
        }
        return undefined
      case 'marker':
      case 'identity':
        return faultOfJson(await readObject(this.#to.storage, key))
      default:
        return 'it is damaged'
    }
  }

  /** What needs no other repository. @returns false where it cannot be made */
  async anew(): Promise<boolean> {
    const { place, object, key } = this.#damage
    if (place.kind === 'marker') {
      const marker = { format: FORMAT, id: randomUUID(), created: new Date().toISOString() }
      await this.#put(key, marker)
      return true
    }
    if (place.kind === 'identity') return this.#identityOfBackups(key)
    if (object?.kind !== 'text' || place.kind !== 'object') return false
    const record = await readAnyRecord(this.#to, this.#context.cluster, place.backup)
    if (record) this.#record = await repairText(this.#passage(this.#to), record, this.#context.lock)
    return record !== undefined
  }

  /** @returns false where that repository has none */
  async from(from: Repository): Promise<boolean> {
    const { place, key } = this.#damage
    const { cluster, lock, twins } = this.#context
    const passage = this.#passage(from)
    switch (place.kind) {
      case 'identity': {
        const identity = await readIdentity(from.storage, cluster)
        if (identity) await this.#put(identityKey(cluster), { format: FORMAT, ...identity })
        return identity !== undefined
      }
      case 'record': {
        const source = await twins.recordIn(from, place.backup, undefined)
        if (source) await repairRecord(passage, source, lock)
        return source !== undefined
      }
      case 'object': {
        if (this.#damage.object?.kind === 'text') return false
        const record = await readAnyRecord(this.#to, cluster, place.backup)
        const source = record && (await twins.recordIn(from, place.backup, record))
        if (!source) return false
        this.#record = await repairObjects(passage, record, source, [place.name], lock)
        return true
      }
      case 'wal':
        if (place.file.kind === 'receiving') return false
        if (place.file.kind === 'dropped') return this.#copyNote(from, key)
        return this.#replaceWal(passage, place.file)
      case 'missing':
        return this.#copyMissing(passage, place)
      default:
        return false
    }
  }

  async #faultOfObject(id: string, name: string): Promise<string | undefined> {
    const record = this.#record ?? (await readAnyRecord(this.#to, this.#context.cluster, id))
    const plain = name.replace(/\.age$/, '')
    const object = (record?.objects as FoundDamage['object'][] | undefined)?.find(
      (each) => each!.name.replace(/\.age$/, '') === plain,
    )
    if (!record || !object) return 'its backup has no record of it'
    const key = backupRecordKey(this.#context.cluster, id).replace(/backup\.json$/, object.name)
    const { faults } = await verifyObject(this.#to, { kind: 'object', key, object, decode: false }, () => {})
    return faults[0]?.reason
  }

  async #replaceWal(passage: Passage, file: WalFile): Promise<boolean> {
    const { cluster, segmentBytes } = this.#context
    const stored = await statWalFile(passage.from, cluster, file.name)
    if (!stored) return false
    if (file.kind === 'segment' || file.kind === 'partial') {
      const number = numberOf(file, segmentBytes)
      await this.#requireOneHistory(passage, { timeline: file.timeline, first: number, last: number })
    }
    await copyWalFile(passage, storedWal(file, stored), true)
    // Of two forms, the one that this repository is configured for is read first.
    const now = await statWalFile(this.#to, cluster, file.name)
    if (now && now.key !== this.#damage.key) await this.#to.storage.remove(this.#damage.key)
    return true
  }

  async #copyMissing(passage: Passage, span: WalSpan): Promise<boolean> {
    const found: StoredWal[] = []
    let lacking = 0
    for (const file of this.#segments(span)) {
      const stored = await statWalFile(passage.from, passage.cluster, file.name)
      if (stored) found.push(storedWal(file, stored))
      else lacking++
    }
    if (found.length === 0) return false
    await this.#requireOneHistory(passage, span)
    for (const wal of found) await copyWalFile(passage, wal)
    return lacking === 0
  }

  async #requireOneHistory(passage: Passage, span: WalSpan): Promise<void> {
    const { isEndOpen } = await requireOneHistory(passage, span, this.#context)
    this.remark = isEndOpen ? '; nothing behind it could be compared, only what lies before it' : ''
  }

  /** Every backup says of which cluster it is. */
  async #identityOfBackups(key: string): Promise<boolean> {
    const { cluster } = this.#context
    const found = new Map<string, { systemIdentifier: string; walSegmentBytes: number }>()
    for await (const id of this.#to.storage.folders(backupsPrefix(cluster))) {
      if (!isBackupId(id) || isLogicalId(id)) continue
      const record = await readAnyRecord(this.#to, cluster, id).catch(() => undefined)
      if (!record || record.method === 'logical') continue
      const { systemIdentifier, walSegmentBytes } = record
      found.set(`${systemIdentifier} ${walSegmentBytes}`, { systemIdentifier, walSegmentBytes })
    }
    const [identity, ...others] = found.values()
    if (!identity || others.length > 0) return false
    await this.#put(key, { format: FORMAT, ...identity })
    return true
  }

  async #copyNote(from: Repository, key: string): Promise<boolean> {
    const note = await readObject(from.storage, key)
    if (faultOfJson(note) !== undefined) return false
    await this.#to.storage.put(key, note!)
    return true
  }

  #put(key: string, facts: object): Promise<unknown> {
    return this.#to.storage.put(key, Buffer.from(`${JSON.stringify(facts, undefined, 2)}\n`))
  }

  *#segments({ timeline, first, last }: WalSpan): Generator<WalFile> {
    for (let number = first; number <= last; number++)
      yield parseWalFile(segmentName(timeline, number, this.#context.segmentBytes))!
  }

  #passage(from: Repository): Passage {
    const { cluster, signal, onBytes } = this.#context
    return { from, to: this.#to, cluster, level: LEVEL, jobs: 1, signal, onBytes }
  }
}

function storedWal(file: WalFile, { key, bytes }: ObjectFacts): StoredWal {
  return { file, key, bytes, form: isSealed(key) ? 'sealed' : 'plain' }
}

/** The two small files without a sum of their own. */
export function faultOfJson(bytes: Buffer | undefined): string | undefined {
  if (!bytes) return 'it is missing'
  try {
    const facts: unknown = JSON.parse(bytes.toString('utf8'))
    return typeof facts === 'object' && facts !== null ? undefined : 'it is not what pgrecall wrote'
  } catch {
    return 'it is not what pgrecall wrote'
  }
}
