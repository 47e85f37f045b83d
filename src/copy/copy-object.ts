import type { Sealer } from '../archive/age.ts'
import type { Codec } from '../archive/codec.ts'
import type { StoredObject } from '../catalog/backup-record.ts'
import { isAsRecorded, ObjectSum } from '../catalog/object-sum.ts'
import { putObject } from '../catalog/put-object.ts'
import { isSealed, readContent } from '../catalog/sealed-object.ts'
import { reasonOf } from '../errors.ts'
import { damagedObject, goneMeanwhile, namingTheObject, type Passage } from './passage.ts'
import { withOtherShard } from './shard-index.ts'

/** How an object is to lie in the destination where that is not as it lies in the source. */
export interface OtherForm {
  sealer: Sealer | undefined
  /** Of a physical backup, which has indexes: their codec, and how a shard lies in the destination, by its name in the source. */
  index?: { codec: Codec; shardNamed: (name: string) => StoredObject | undefined }
}

/** An object of a backup of either kind. */
export type CopiedObject = StoredObject & { kind: string }

/**
 * Copies one object of a backup, as it is or in another form. What is read is summed up on the way and compared with the record
 * before the destination gets the last byte, so what is damaged is never stored.
 * @param folder the backup's, the same in both
 * @returns the object as it lies in the destination
 * @throws PgrecallError `damaged`, `failed` when it went away, `key` when it has to be decrypted and no key fits
 */
export async function copyObject<Kind extends CopiedObject>(
  passage: Passage,
  folder: string,
  object: Kind,
  form: OtherForm | undefined,
): Promise<Kind> {
  const key = folder + object.name
  try {
    const source = new SummedSource(passage, key, object)
    return form ? await source.storeAnew(folder, form) : await source.storeAsItIs(folder)
  } catch (error) {
    passage.signal.throwIfAborted()
    throw namingTheObject(error, passage, key)
  }
}

class SummedSource<Kind extends CopiedObject> {
  readonly #passage: Passage
  readonly #key: string
  readonly #recorded: Kind
  readonly #sum: ObjectSum

  constructor(passage: Passage, key: string, recorded: Kind) {
    this.#passage = passage
    this.#key = key
    this.#recorded = recorded
    this.#sum = new ObjectSum(isSealed(key))
  }

  /** The same bytes under the same name. A header that a rotation of keys replaced is the one that is recorded from now on. */
  async storeAsItIs(folder: string): Promise<Kind> {
    const { from, to, signal } = this.#passage
    const chunks = await from.storage.get(this.#key, { signal })
    if (!chunks) throw goneMeanwhile(this.#passage, this.#key)
    let found: Omit<StoredObject, 'name'> | undefined
    const observed = async function* (this: SummedSource<Kind>) {
      for await (const chunk of chunks) {
        this.#observe(chunk)
        yield chunk
      }
      found = this.#end()
    }
    const { name } = this.#recorded
    await to.storage.put(folder + name, observed.call(this), { immutable: true, lockedLater: true, signal })
    return { ...this.#recorded, ...found! }
  }

  async storeAnew(folder: string, { sealer, index }: OtherForm): Promise<Kind> {
    const { from, to, signal } = this.#passage
    const onStored = (chunk: Buffer) => this.#observe(chunk)
    const content = await readContent(from, this.#key, { signal, onStored })
    if (!content) throw goneMeanwhile(this.#passage, this.#key)
    const plain =
      index && this.#recorded.kind === 'index'
        ? withOtherShard(content, index.codec, index.shardNamed)
        : content
    const { header: _header, ...facts } = this.#recorded as CopiedObject
    const compared = async function* (this: SummedSource<Kind>) {
      yield* plain
      this.#end()
    }
    const plainName = facts.name.replace(/\.age$/, '')
    const stored = await putObject(to.storage, folder, plainName, compared.call(this), { sealer, signal })
    return { ...facts, ...stored } as Kind
  }

  #observe(chunk: Buffer): void {
    try {
      this.#sum.push(chunk)
    } catch (error) {
      throw damagedObject(this.#passage, this.#key, `is damaged: ${reasonOf(error)}`)
    }
    this.#passage.onBytes(chunk.length)
  }

  /** @throws PgrecallError `damaged` unless all was read, and was what the record says */
  #end(): Omit<StoredObject, 'name'> {
    try {
      const found = this.#sum.end()
      if (isAsRecorded(this.#recorded, found)) return found
    } catch (error) {
      throw damagedObject(this.#passage, this.#key, `is damaged: ${reasonOf(error)}`)
    }
    throw damagedObject(this.#passage, this.#key, 'is not what was recorded when it was stored')
  }
}
