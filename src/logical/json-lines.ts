import { StringDecoder } from 'node:string_decoder'
import { decode, methodOf } from '../archive/codec.ts'
import { backupPrefix } from '../catalog/layout.ts'
import type { LogicalObject, LogicalRecord } from '../catalog/logical-record.ts'
import { isAsRecorded, ObjectSum } from '../catalog/object-sum.ts'
import type { Repository } from '../catalog/repository.ts'
import { isSealed, readContent } from '../catalog/sealed-object.ts'
import { PgrecallError, reasonOf } from '../errors.ts'

/**
 * The lines of an object of a backup, each a value in JSON. Reading begins when the first one is asked for. Behind the last one,
 * what was stored is compared with the sum that was recorded.
 * @param backup whose object it is
 * @throws PgrecallError `key` where no key fits, `damaged` where it is missing or not what was stored, `repository`
 */
export async function* readJsonLines<Line>(
  repository: Repository,
  { cluster, id }: Pick<LogicalRecord, 'cluster' | 'id'>,
  object: LogicalObject,
): AsyncGenerator<Line> {
  const key = backupPrefix(cluster, id) + object.name
  const sum = new ObjectSum(isSealed(key))
  try {
    const stored = await readContent(repository, key, { onStored: (chunk) => sum.push(chunk) })
    if (!stored) throw new Error('it is missing')
    for await (const line of splitLines(decode(methodOf(key), stored))) yield JSON.parse(line) as Line
    if (!isAsRecorded(object, sum.end())) throw new Error('its bytes are not those that were stored')
  } catch (error) {
    if (error instanceof PgrecallError) throw error
    const name = `${repository.storage.location}/${key}`
    throw new PgrecallError('damaged', `${name} is damaged: ${reasonOf(error)}`, {
      hint: 'use another repository, or another backup, where there is one',
      cause: error,
    })
  }
}

/** Only a line feed ends a line: what else Unicode calls an end of one may stand in a name, and JSON does not escape it. */
async function* splitLines(pieces: AsyncIterable<Buffer>): AsyncGenerator<string> {
  const decoder = new StringDecoder('utf8')
  let begun = ''
  for await (const piece of pieces) {
    const lines = (begun + decoder.write(piece)).split('\n')
    begun = lines.pop()!
    yield* lines
  }
  begun += decoder.end()
  if (begun !== '') yield begun
}
