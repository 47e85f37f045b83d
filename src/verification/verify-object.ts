import { decode, methodOf } from '../archive/codec.ts'
import { isAsRecorded, ObjectSum } from '../catalog/object-sum.ts'
import type { Repository } from '../catalog/repository.ts'
import { isSealed, readContent } from '../catalog/sealed-object.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import { nothingRead, type ObjectJob, type ReadResult } from './read-job.ts'

/**
 * Reads an object whole, and compares what is stored with what was recorded. Of an encrypted one the header has a sum of its
 * own: another header is that of a rotation of keys, which has to be one that opens.
 * @param onBytes hears of stored bytes; may throw to stop
 * @throws PgrecallError `repository` when there is no answer
 */
export async function verifyObject(
  repository: Repository,
  job: ObjectJob,
  onBytes: (count: number) => void,
): Promise<ReadResult> {
  const { key, object } = job
  const result = { ...nothingRead(), objects: 1 }
  const sum = new ObjectSum(isSealed(key))
  const faulty = (reason: string) => ({ ...result, faults: [{ key, reason }] })
  let isOtherHeader = false
  try {
    const chunks = await repository.storage.get(key)
    if (!chunks) return faulty('it is missing')
    for await (const chunk of chunks) {
      result.bytes += chunk.length
      onBytes(chunk.length)
      sum.push(chunk)
    }
    const found = sum.end()
    if (!isAsRecorded(object, found)) return faulty('its bytes are not those that were stored')
    isOtherHeader = found.header?.sha256 !== object.header?.sha256
    if (isOtherHeader || job.decode) await open(repository, job)
    return result
  } catch (error) {
    const kind = error instanceof PgrecallError ? error.kind : 'damaged'
    if (kind !== 'damaged' && kind !== 'key') throw error
    if (kind === 'damaged') return faulty(reasonOf(error))
    return { ...(isOtherHeader ? faulty(UNKNOWN_HEADER) : result), undecoded: job.decode ? 1 : 0 }
  }
}

/** Without a key, a header that is not the one that was recorded cannot be told from a damaged one. */
const UNKNOWN_HEADER =
  'its age header is not the one that was recorded, and no key of this host opens it: it is damaged, or "pgrecall key rotate" was interrupted'

/** Of an object that is not to be decoded, only as much is read as takes to see that its header is one. */
async function open(repository: Repository, { key, decode: isToDecode }: ObjectJob): Promise<void> {
  const content = await readContent(repository, key)
  if (!content) throw new Error('it was removed meanwhile')
  for await (const _plain of isToDecode ? decode(methodOf(key), content) : content) if (!isToDecode) break
}
