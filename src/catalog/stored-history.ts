import { zstdDecompressSync } from 'node:zlib'
import { formatLsn } from '../postgres/lsn.ts'
import { parseHistory } from '../postgres/timeline-history.ts'
import { historyName } from '../postgres/wal-file.ts'
import { readObject, type Storage } from '../storage/storage.ts'
import { walKey } from './layout.ts'
import type { Ancestor } from './wal-ranges.ts'

/** Far more than PostgreSQL writes for hundreds of promotions. */
const LARGEST_BYTES = 1024 * 1024

/**
 * The way to a timeline as its archived history tells it.
 * @returns undefined when none is stored; without ancestors when it cannot be read, which whoever restores will be told
 */
export async function readStoredHistory(
  storage: Storage,
  cluster: string,
  timeline: number,
): Promise<{ ancestors: Ancestor[] | undefined } | undefined> {
  const object = await readObject(storage, walKey(cluster, historyName(timeline)))
  if (!object) return undefined
  try {
    const text = plainBytes(object).toString('utf8')
    const ancestors = parseHistory(text, timeline)
      .slice(0, -1)
      .map((stretch) => ({ timeline: stretch.timeline, switchedAt: formatLsn(stretch.end!) }))
    return { ancestors }
  } catch {
    return { ancestors: undefined }
  }
}

/** The ordinary zstd frame behind the skippable one, see docs/format.md. */
function plainBytes(object: Buffer): Buffer {
  const frame = object.subarray(8 + object.readUInt32LE(4))
  return zstdDecompressSync(frame, { maxOutputLength: LARGEST_BYTES })
}
