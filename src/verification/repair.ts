import { randomUUID } from 'node:crypto'
import { FORMAT, readIdentity } from '../catalog/identity.ts'
import { backupRecordKey, identityKey } from '../catalog/layout.ts'
import type { Lock } from '../catalog/lock.ts'
import type { Repository } from '../catalog/repository.ts'
import { isSealed } from '../catalog/sealed-object.ts'
import type { Span } from '../catalog/segment-spans.ts'
import { statWalFile, type WalObject } from '../catalog/wal-object.ts'
import { copyWalFile } from '../copy/copy-wal.ts'
import type { Passage } from '../copy/passage.ts'
import type { StoredWal } from '../copy/plan.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import { numberOf, parseWalFile, segmentName, type WalFile } from '../postgres/wal-file.ts'
import { type ObjectFacts, readObject } from '../storage/storage.ts'
import type { AnyRecord, FoundDamage, Mend } from './damage.ts'
import { requireOneHistory, type StoredHistory } from './one-history.ts'
import { agreedIdentity, contradiction, type OwnIdentity, readOwnIdentity } from './own-identity.ts'
import { removeReplaced, repairObjects, repairText } from './repair-backup.ts'
import { repairRecord } from './repair-record.ts'
import { readAnyRecord, type Twins } from './twin.ts'
import { faultOfIdentity, faultOfMarker } from './verify-identity.ts'
import { verifyObject } from './verify-object.ts'
import { verifyOther } from './verify-others.ts'
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
  #identity: Promise<OwnIdentity> | undefined
  /** Where WAL lies that was brought: in another form, it has another key. */
  #replacedBy: string | undefined
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
        return this.#faultOfWal(place.file)
      case 'missing':
        for (const { name } of this.#segments(place)) {
          const { reason } = await verifyWalFile(this.#to, this.#context.cluster, name)
          if (reason !== undefined) return `${name}: ${reason}`
        }
        return undefined
      case 'marker':
        return faultOfMarker(await readObject(this.#to.storage, key))
      case 'identity':
        return this.#faultOfIdentity()
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
    if (place.kind === 'identity') {
      const identity = agreedIdentity(await this.#own())
      if (identity) await this.#put(key, { format: FORMAT, ...identity })
      return identity !== undefined
    }
    if (object?.kind !== 'text' || place.kind !== 'object') return false
    const record = await readAnyRecord(this.#to, this.#context.cluster, place.backup)
    if (record) this.#record = await repairText(this.#passage(this.#to), record, this.#context.lock)
    return record !== undefined
  }

  /** @returns false where that repository has none */
  async from(from: Repository): Promise<boolean> {
    const { place } = this.#damage
    const { cluster, lock, twins } = this.#context
    const passage = this.#passage(from)
    switch (place.kind) {
      case 'identity': {
        const identity = await readIdentity(from.storage, cluster)
        const reason = identity && contradiction(identity, await this.#own())
        if (reason !== undefined)
          throw new PgrecallError('conflict', `that of repository "${from.name}" is not its: ${reason}`)
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
        if (place.file.kind === 'dropped') return this.#copyNote(from, place.file)
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
    const reason = await this.#faultOfOther(passage.from, file, stored.key, stored.bytes)
    if (reason !== undefined)
      throw new PgrecallError(
        'damaged',
        `that in repository "${passage.from.name}" is damaged, too: ${reason}`,
      )
    await copyWalFile(passage, storedWal(file, stored), true)
    // Of two forms, the one that this repository is configured for is read first.
    this.#replacedBy = (await statWalFile(this.#to, cluster, file.name))?.key
    if (this.#replacedBy !== undefined && this.#replacedBy !== this.#damage.key)
      await removeReplaced(this.#to.storage, this.#damage.key)
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

  async #copyNote(from: Repository, file: WalObject): Promise<boolean> {
    const { key } = this.#damage
    const note = await readObject(from.storage, key)
    if (!note || (await this.#faultOfOther(from, file, key, note.length)) !== undefined) return false
    await this.#to.storage.put(key, note)
    return true
  }

  /** Of what is no segment, the content is looked at as it was when the damage was found. */
  async #faultOfWal(file: WalObject): Promise<string | undefined> {
    const { cluster } = this.#context
    if (file.kind === 'segment') return (await verifyWalFile(this.#to, cluster, file.name)).reason
    const own = this.#replacedBy ?? this.#damage.key
    const facts = (await this.#to.storage.stat(own)) ?? (await statWalFile(this.#to, cluster, file.name))
    // What was being received is a whole segment by now.
    if (!facts) return file.kind === 'receiving' ? undefined : 'it is missing from the archive'
    return this.#faultOfOther(this.#to, file, facts.key, facts.bytes)
  }

  async #faultOfOther(repository: Repository, file: WalObject, key: string, bytes: number) {
    const { timelines, segmentBytes, signal } = this.#context
    if (file.kind === 'segment') return undefined
    return (await verifyOther(repository, { file, key, bytes }, timelines, segmentBytes, signal)).reason
  }

  async #faultOfIdentity(): Promise<string | undefined> {
    const { cluster } = this.#context
    const reason = faultOfIdentity(await readObject(this.#to.storage, identityKey(cluster)))
    if (reason !== undefined) return reason
    const identity = await readIdentity(this.#to.storage, cluster)
    return identity && contradiction(identity, await this.#own())
  }

  #own(): Promise<OwnIdentity> {
    this.#identity ??= readOwnIdentity(this.#to, this.#context.cluster)
    return this.#identity
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
