import { SHARD_FILES, shardBytesFor } from '../backup/shard.ts'
import type { BaseShard, Reconstruction } from '../reconstruction/reconstruction.ts'
import type { RewriteJob } from './rewrite-job.ts'

/** A new shard that has no name yet. */
export type NewShard = Pick<RewriteJob, 'parts' | 'group'>

type Content = Pick<Reconstruction, 'bytes' | 'shards' | 'baseShards'>

interface GrowingShard {
  group: string
  parts: BaseShard[]
  bytes: number
  files: number
}

/**
 * Shares the files of a chain out to new shards of the size that those of a full backup have. The links' own will not do: each
 * incremental backup adds a few small ones, of which there would be more from one consolidation to the next, and one whose
 * files have grown would keep a single thread busy, in every restore to come.
 * @param isWanted by the path of a file in its group
 */
export function* newShards(
  reconstruction: Content,
  isWanted: (path: string) => boolean,
): Generator<NewShard> {
  const limit = shardBytesFor(reconstruction.bytes)
  const growing = new Map<string, GrowingShard>()
  for (const { shard, members } of basesOf(reconstruction, isWanted)) {
    const { group } = reconstruction.shards[shard]!
    for (const member of members) {
      const current = growing.get(group) ?? { group, parts: [], bytes: 0, files: 0 }
      growing.set(group, current)
      if (current.parts.at(-1)?.shard !== shard) current.parts.push({ shard, members: [] })
      current.parts.at(-1)!.members.push(member)
      current.files++
      current.bytes += member.fileBytes
      if (current.bytes < limit && current.files < SHARD_FILES) continue
      yield current
      growing.delete(group)
    }
  }
  yield* growing.values()
}

/** The shards to read, with only those of their members that are wanted. */
export function* basesOf(
  reconstruction: Pick<Reconstruction, 'baseShards'>,
  isWanted: (path: string) => boolean,
): Generator<BaseShard> {
  for (const { shard, members } of reconstruction.baseShards()) {
    const wanted = members.filter(({ path }) => isWanted(path))
    if (wanted.length > 0) yield { shard, members: wanted }
  }
}
