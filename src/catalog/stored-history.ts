import { zstdDecompressSync } from 'node:zlib'
import { readSealHeader, SEAL_HEADER_READ_BYTES, type SealNote } from '../archive/age.ts'
import { formatLsn, parseLsn } from '../postgres/lsn.ts'
import { parseHistory } from '../postgres/timeline-history.ts'
import { historyName } from '../postgres/wal-file.ts'
import { readObject, type Storage } from '../storage/storage.ts'
import { walKey } from './layout.ts'
import type { Ancestor } from './wal-ranges.ts'

/** Far more than PostgreSQL writes for hundreds of promotions. */
const LARGEST_BYTES = 1024 * 1024
const NOTE = 'history'
/** What a note may take of a header; some four hundred promotions. */
const LARGEST_NOTE = SEAL_HEADER_READ_BYTES / 2

/**
 * The way to a timeline as its archived history tells it. Needs no key: of an encrypted one, the note is read.
 * @returns undefined when none is stored; without ancestors when it cannot be read, which whoever restores will be told
 */
export async function readStoredHistory(
  storage: Storage,
  cluster: string,
  timeline: number,
): Promise<{ ancestors: Ancestor[] | undefined } | undefined> {
  const name = historyName(timeline)
  const object = await readObject(storage, walKey(cluster, name))
  if (object) return { ancestors: ancestorsIn(object, timeline) }
  const range = { offset: 0, length: SEAL_HEADER_READ_BYTES }
  const start = await readObject(storage, walKey(cluster, name, 'sealed'), { range })
  return start && { ancestors: notedAncestors(start) }
}

/**
 * What the header of an encrypted history tells to whoever has no key: `history <timeline>@<LSN> ...`, oldest first.
 * @returns nothing for what is no history, or has more ancestors than a header holds
 */
export function historyNotes(text: string, timeline: number): SealNote[] {
  const args = readAncestors(text, timeline)?.map((ancestor) => `${ancestor.timeline}@${ancestor.switchedAt}`)
  return args && args.join(' ').length <= LARGEST_NOTE ? [{ name: NOTE, args }] : []
}

function notedAncestors(start: Buffer): Ancestor[] | undefined {
  const note = readSealHeader(start)?.notes.find(({ name }) => name === NOTE)
  const ancestors = note?.args.map((arg) => {
    const [, timeline, switchedAt = ''] = /^(\d+)@(.+)$/.exec(arg) ?? []
    return { timeline: Number(timeline), switchedAt }
  })
  const isSound = ancestors?.every(
    ({ timeline, switchedAt }) => timeline > 0 && parseLsn(switchedAt) !== undefined,
  )
  return isSound ? ancestors : undefined
}

/** Of an ordinary object: the zstd frame behind the skippable one, see docs/format.md. */
function ancestorsIn(object: Buffer, timeline: number): Ancestor[] | undefined {
  try {
    const frame = object.subarray(8 + object.readUInt32LE(4))
    const plain = zstdDecompressSync(frame, { maxOutputLength: LARGEST_BYTES })
    return readAncestors(plain.toString('utf8'), timeline)
  } catch {
    return undefined
  }
}

function readAncestors(text: string, timeline: number): Ancestor[] | undefined {
  try {
    return parseHistory(text, timeline)
      .slice(0, -1)
      .map((stretch) => ({ timeline: stretch.timeline, switchedAt: formatLsn(stretch.end!) }))
  } catch {
    return undefined
  }
}
