import { compressFrame, decodeFrame } from '../archive/codec.ts'
import type { LogicalRecord } from '../catalog/logical-record.ts'
import { PgrecallError } from '../errors.ts'
import type { TableFingerprint } from './fingerprint.ts'
import { readJsonLines } from './json-lines.ts'
import type { StoredBackup } from './restore-object.ts'

/** A line of `fingerprints.jsonl`. */
export interface RecordedFingerprint extends TableFingerprint {
  /** Its name. */
  database: string
}

/** `fingerprints.jsonl`: a line of JSON for each table. */
export function* fingerprintLines(
  databases: readonly { database: { name: string }; fingerprints: readonly TableFingerprint[] }[],
): Generator<Buffer> {
  for (const { database, fingerprints } of databases)
    for (const fingerprint of fingerprints)
      yield Buffer.from(`${JSON.stringify({ database: database.name, ...fingerprint })}\n`)
}

/** Of a cluster there can be millions; packed, each takes up some bytes. */
const CODEC = { method: 'zstd', level: 1 } as const
const PACKED_TOGETHER = 10_000

/** What was counted of each database when a backup was taken. */
export class RecordedFingerprints {
  readonly #packs: ReadonlyMap<string, Buffer[]>

  private constructor(packs: ReadonlyMap<string, Buffer[]>) {
    this.#packs = packs
  }

  /**
   * Reads the object once, and compares it with its sum.
   * @param databases by name: of others nothing is kept
   * @throws PgrecallError `refused` of a backup without fingerprints; as `readJsonLines`; the signal's reason
   */
  static async read(
    { repository, record }: StoredBackup,
    databases: ReadonlySet<string>,
    signal: AbortSignal,
  ): Promise<RecordedFingerprints> {
    const object = record.objects.find(({ kind }) => kind === 'fingerprint')
    if (!object) throw refusalOf(record)
    const packs = new Map<string, Buffer[]>()
    let together: RecordedFingerprint[] = []
    const pack = () => {
      const [first] = together
      if (!first) return
      const packed = compressFrame(CODEC, Buffer.from(JSON.stringify(together)))
      packs.set(first.database, [...(packs.get(first.database) ?? []), packed])
      together = []
    }
    for await (const line of readJsonLines<RecordedFingerprint>(repository, record, object)) {
      signal.throwIfAborted()
      if (!databases.has(line.database)) continue
      if (together.length === PACKED_TOGETHER || together[0]?.database !== line.database) pack()
      together.push(line)
    }
    pack()
    return new RecordedFingerprints(packs)
  }

  /** @param database by name @returns in the order in which they were counted */
  of(database: string): TableFingerprint[] {
    return (this.#packs.get(database) ?? [])
      .flatMap(
        (packed) => JSON.parse(decodeFrame(CODEC.method, packed).toString('utf8')) as RecordedFingerprint[],
      )
      .map(({ database: _name, ...fingerprint }) => fingerprint)
  }
}

const refusalOf = ({ id }: LogicalRecord) =>
  new PgrecallError('refused', `backup ${id} has no fingerprints, with which a restore is compared`, {
    hint: 'leave --compare out; "pgrecall backup --method logical --fingerprint" takes one that has them',
  })
