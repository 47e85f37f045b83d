import type { BackupSummary } from '../catalog/backup-record.ts'
import { spanOf } from '../catalog/parts-of-runs.ts'
import type { Span } from '../catalog/segment-spans.ts'
import {
  type DamagedObject,
  MOST_DAMAGED,
  nothingVerified,
  readVerifications,
  updateVerifications,
  type Verifications,
  type VerifiedRun,
} from '../catalog/verification-file.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { Events } from '../events.ts'
import { segmentName } from '../postgres/wal-file.ts'
import type { Storage } from '../storage/storage.ts'
import { type KnownSpan, KnownSpans } from './known-spans.ts'
import type { Fault } from './read-job.ts'

/** With so many runs of WAL, neighbours are joined, of which the older moment counts. */
const MOST_RUNS = 10_000
const SAVED_EVERY_MS = 30_000
/** So far the clocks of hosts may be apart. */
const CLOCKS_DIFFER_MS = 5 * 60 * 1000

/**
 * What is remembered in the repository of what was read and found sound: known when a verification begins, and noted as it goes on.
 * A repository that cannot be written is verified all the same, and remembers nothing.
 */
export class KnownVerifications {
  readonly stored: Verifications
  readonly #storage: Storage
  readonly #segmentBytes: number
  readonly #context: { events: Events; now: () => Date }
  /** When each object of a backup was read, by the place in its record. */
  readonly #backups = new Map<string, { finishedAt: string; objects: (string | null)[] }>()
  readonly #wal = new KnownSpans()
  /** The same of what is encrypted, and of which a host without the key compared the sizes. */
  readonly #walSizes = new KnownSpans()
  readonly #damaged = new Map<string, DamagedObject>()
  /** Of what was damaged, the keys that stood in the repository when it was last read or written, and those that were found now. */
  #agreed = new Set<string>()
  readonly #noted = new Set<string>()
  readonly #begunAt: number
  #savedAt: number
  #isWritable = true

  private constructor(
    storage: Storage,
    stored: Verifications,
    segmentBytes: number,
    context: { events: Events; now: () => Date },
  ) {
    this.#storage = storage
    this.stored = stored
    this.#segmentBytes = segmentBytes
    this.#context = context
    this.#begunAt = context.now().getTime()
    this.#savedAt = this.#begunAt
    for (const [id, { finishedAt, objects }] of Object.entries(stored.backups)) {
      const moments = objects.flatMap(([at, count]) => Array<string | null>(count).fill(at))
      this.#backups.set(id, { finishedAt, objects: moments })
    }
    for (const run of stored.wal) this.#wal.note(this.#spanOf(run))
    for (const run of stored.walSizes ?? []) this.#walSizes.note(this.#spanOf(run))
    this.#takeOver(stored.damaged)
    this.#agreed = new Set(this.#damaged.keys())
  }

  /** @throws PgrecallError `repository` when there is no answer */
  static async read(
    storage: Storage,
    cluster: string,
    segmentBytes: number,
    context: { events: Events; now: () => Date },
  ): Promise<KnownVerifications> {
    const stored =
      (await readVerifications(storage, cluster)) ?? nothingVerified(cluster, context.now().toISOString())
    return new KnownVerifications(storage, stored, segmentBytes, context)
  }

  /** What was found damaged, as far as reading it can find it sound. @param decode whether it is taken apart, too */
  damagedKeys(decode: boolean): ReadonlySet<string> {
    const damaged = [...this.#damaged.values()].filter(({ isContent }) => decode || !isContent)
    return new Set(damaged.map(({ key }) => key))
  }

  /** When an object of a backup was read, by its place in the record; undefined for never. */
  momentOf({ id, finishedAt }: Pick<BackupSummary, 'id' | 'finishedAt'>, index: number): string | undefined {
    const known = this.#backups.get(id)
    return known?.finishedAt === finishedAt ? this.#believed(known.objects[index]) : undefined
  }

  /** @returns what is known of segments, with what lies between as never read; in order */
  spansIn(timeline: number, first: bigint, last: bigint): KnownSpan[] {
    return this.#wal.in(timeline, first, last).map((span) => ({ ...span, at: this.#believed(span.at) }))
  }

  /** The same of when their sizes were compared by a host that could not read them. */
  sizesIn(timeline: number, first: bigint, last: bigint): KnownSpan[] {
    return this.#walSizes.in(timeline, first, last).map((span) => ({ ...span, at: this.#believed(span.at) }))
  }

  /** Segments of a timeline that were there. */
  spansOf(timeline: number): readonly KnownSpan[] {
    return [...this.#wal.of(timeline), ...this.#walSizes.of(timeline)]
  }

  /** @param at undefined where it was found damaged */
  noteObject(
    { id, finishedAt }: Pick<BackupSummary, 'id' | 'finishedAt'>,
    index: number,
    at: string | undefined,
  ): void {
    let known = this.#backups.get(id)
    if (known?.finishedAt !== finishedAt) {
      known = { finishedAt, objects: [] }
      this.#backups.set(id, known)
    }
    while (known.objects.length < index) known.objects.push(null)
    known.objects[index] = at ?? null
  }

  noteWal(span: KnownSpan): void {
    this.#wal.note(span)
  }

  noteWalSizes(span: KnownSpan): void {
    this.#walSizes.note(span)
  }

  noteDamage({ key, reason, isContent }: Fault): void {
    const foundAt = this.#damaged.get(key)?.foundAt ?? this.#context.now().toISOString()
    this.#noted.add(key)
    this.#damaged.set(key, { key, reason, foundAt, ...(isContent && { isContent }) })
  }

  /** @param isContent whether what is in it was looked at, too, as deep as ever */
  noteSound(key: string, { isContent = false } = {}): void {
    if (isContent || !this.#damaged.get(key)?.isContent) this.#damaged.delete(key)
  }

  /** Forgets backups that are gone. */
  forgetBackups(present: ReadonlySet<string>): void {
    for (const id of this.#backups.keys()) if (!present.has(id)) this.#backups.delete(id)
  }

  /** Forgets damage that is over. */
  forgetDamage(isOver: (damaged: DamagedObject) => boolean): void {
    for (const damaged of this.#damaged.values()) if (isOver(damaged)) this.#damaged.delete(damaged.key)
  }

  /** Forgets WAL that is not stored any more. @param stored spans by the timeline, in order */
  forgetWal(stored: ReadonlyMap<number, readonly Span[]>): void {
    this.#wal.keepOnly(stored)
    this.#walSizes.keepOnly(stored)
  }

  /** Saves now and then, so that a run that is killed loses little. */
  async saveNowAndThen(facts: () => Partial<Verifications>): Promise<void> {
    if (this.#context.now().getTime() - this.#savedAt >= SAVED_EVERY_MS) await this.save(facts())
  }

  /** @param facts what else is to be told. Warns once where it cannot be written */
  async save(facts: Partial<Verifications>): Promise<void> {
    if (!this.#isWritable) return
    const now = this.#context.now()
    this.#savedAt = now.getTime()
    try {
      await updateVerifications(this.#storage, this.stored.cluster, (stored) => {
        if (stored) this.#takeOver(stored.damaged)
        return this.#asStored(now, facts)
      })
    } catch (error) {
      if (!(error instanceof PgrecallError)) throw error
      this.#isWritable = false
      this.#context.events.emit('warning', {
        text: `what was verified cannot be remembered in ${this.#storage.location}, so the next look begins anew: ${reasonOf(error)}`,
      })
    }
  }

  /** What another verification has noted since: what it found damaged, and what it found sound. */
  #takeOver(stored: readonly DamagedObject[]): void {
    const keys = new Set(stored.map(({ key }) => key))
    for (const key of this.#agreed) if (!keys.has(key) && !this.#noted.has(key)) this.#damaged.delete(key)
    for (const damaged of stored)
      if (!this.#agreed.has(damaged.key) && !this.#damaged.has(damaged.key))
        this.#damaged.set(damaged.key, damaged)
  }

  #asStored(now: Date, facts: Partial<Verifications>): Verifications {
    const { unfinished: _unfinished, walSizes: _walSizes, ...known } = this.stored
    const walSizes = this.#runs(this.#walSizes)
    const backups = [...this.#backups].map(
      ([id, { finishedAt, objects }]) => [id, { finishedAt, objects: runsOf(objects) }] as const,
    )
    const damaged = [...this.#damaged.values()].slice(0, MOST_DAMAGED)
    this.#agreed = new Set(damaged.map(({ key }) => key))
    return {
      ...known,
      ...{
        updatedAt: now.toISOString(),
        backups: Object.fromEntries(backups),
        wal: this.#runs(this.#wal),
        damaged,
      },
      ...(walSizes.length > 0 && { walSizes }),
      ...facts,
    }
  }

  /** The moment of what was read longest ago, of what is there. */
  oldest(): string | undefined {
    let oldest: string | undefined
    const note = (at: string | null | undefined) => {
      if (at && (oldest === undefined || at < oldest)) oldest = at
    }
    for (const { objects } of this.#backups.values()) for (const at of objects) note(this.#believed(at))
    for (const { at } of this.#wal.all(Number.POSITIVE_INFINITY)) note(this.#believed(at))
    return oldest
  }

  /** What a clock that was ahead has noted would be the newest for years, and so never be read again. */
  #believed(at: string | null | undefined): string | undefined {
    return at && Date.parse(at) <= this.#begunAt + CLOCKS_DIFFER_MS ? at : undefined
  }

  #spanOf(run: VerifiedRun): KnownSpan {
    const timeline = Number.parseInt(run.first.slice(0, 8), 16)
    return { timeline, ...spanOf(run, this.#segmentBytes), at: run.at }
  }

  #runs(spans: KnownSpans): VerifiedRun[] {
    return spans
      .all(MOST_RUNS)
      .map(({ timeline, first, last, at }) => ({
        first: segmentName(timeline, first, this.#segmentBytes),
        last: segmentName(timeline, last, this.#segmentBytes),
        at,
      }))
      .toSorted((a, b) => (a.first < b.first ? -1 : 1))
  }
}

function runsOf(moments: readonly (string | null)[]): [string | null, number][] {
  const runs: [string | null, number][] = []
  for (const at of moments) {
    const before = runs.at(-1)
    if (before && before[0] === (at ?? null)) before[1]++
    else runs.push([at ?? null, 1])
  }
  return runs
}
