import { decode, methodOf } from '../archive/codec.ts'
import { backupPrefix } from '../catalog/layout.ts'
import type { LogicalObject, LogicalRecord } from '../catalog/logical-record.ts'
import { isAsRecorded, ObjectSum } from '../catalog/object-sum.ts'
import type { Repository } from '../catalog/repository.ts'
import { isSealed, readContent } from '../catalog/sealed-object.ts'
import { PgrecallError, reasonOf } from '../errors.ts'

/** Where a backup lies. */
export interface StoredBackup {
  repository: Repository
  record: LogicalRecord
}

const ELSEWHERE = 'restore from another repository, or from another backup: "pgrecall list" shows them'

/**
 * Reads an object as what it was before it was compressed and encrypted, and compares its stored bytes with their sum.
 * @param use reads as much as it needs; the rest is read afterwards, for the sum
 * @param onStored hears of the stored bytes as they are read
 * @throws PgrecallError `damaged`, where it can be from within `use`; `key`
 */
export async function withObject<Result>(
  backup: StoredBackup,
  object: LogicalObject,
  signal: AbortSignal,
  use: (plain: AsyncIterable<Buffer>) => Promise<Result>,
  onStored: (bytes: number) => void = () => {},
): Promise<Result> {
  const pieces = checked(backup, object, signal, onStored)
  try {
    // Without `return`, so that who has enough does not end it.
    const result = await use({ [Symbol.asyncIterator]: () => ({ next: () => pieces.next() }) })
    while (!(await pieces.next()).done);
    return result
  } finally {
    await pieces.return(undefined)
  }
}

/** The start of an object, as far as somebody wants to read it; it is not compared with its sum. */
export async function* startOf(
  { repository, record }: StoredBackup,
  object: LogicalObject,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const key = backupPrefix(record.cluster, record.id) + object.name
  const content = await readContent(repository, key, { signal })
  if (!content) throw damaged(key, 'it is missing')
  try {
    yield* decode(methodOf(object.name), content)
  } catch (error) {
    throw error instanceof PgrecallError || signal.aborted ? error : damaged(key, reasonOf(error))
  }
}

async function* checked(
  { repository, record }: StoredBackup,
  object: LogicalObject,
  signal: AbortSignal,
  onStored: (bytes: number) => void,
): AsyncGenerator<Buffer, void> {
  const key = backupPrefix(record.cluster, record.id) + object.name
  const sum = new ObjectSum(isSealed(key))
  const push = (chunk: Buffer) => {
    sum.push(chunk)
    onStored(chunk.length)
  }
  try {
    const content = await readContent(repository, key, { signal, onStored: push })
    if (!content) throw damaged(key, 'it is missing')
    yield* decode(methodOf(object.name), content)
    if (!isAsRecorded(object, sum.end())) throw damaged(key, 'its bytes are not those that were stored')
  } catch (error) {
    signal.throwIfAborted()
    throw error instanceof PgrecallError ? error : damaged(key, reasonOf(error))
  }
}

const damaged = (key: string, reason: string) =>
  new PgrecallError('damaged', `${key} is damaged: ${reason}`, { hint: ELSEWHERE })
