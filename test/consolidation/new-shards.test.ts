import { expect, test } from 'vitest'
import { SHARD_FILES } from '../../src/backup/shard.ts'
import { type NewShard, newShards } from '../../src/consolidation/new-shards.ts'
import type { FinalMember } from '../../src/reconstruction/file-table.ts'
import type { Reconstruction } from '../../src/reconstruction/reconstruction.ts'
import type { StoredShard } from '../../src/reconstruction/shard-content.ts'

const MIB = 1024 * 1024
const sized = (...mebibytes: number[]): MadeShard['files'] =>
  Object.fromEntries(mebibytes.map((size, index) => [`${index}-of-${size}`, size * MIB]))
const one = (path: string, bytes = 0): MadeShard['files'] => ({ [path]: bytes })

/** How many files each new shard takes from which of the links' shards. */
const partsOf = (shards: Iterable<NewShard>) =>
  [...shards].map(
    ({ group, parts }) =>
      `${group}: ${parts.map(({ shard, members }) => `${members.length} of ${shard}`).join(', ')}`,
  )

test('small shards are put together, those of each group for themselves', () => {
  const links = ['base', '16384', 'base', 'wal', '16384'].map((group, index) => ({
    group,
    files: one(`file-${index}`),
  }))
  expect(partsOf(newShards(contentOf(links), () => true))).toEqual([
    'base: 1 of 0, 1 of 2',
    '16384: 1 of 1, 1 of 4',
    'wal: 1 of 3',
  ])
})

test('those whose files have grown are cut', () => {
  const content = contentOf([
    { group: 'base', files: sized(40, 40, 40, 40, 10) },
    { group: 'base', files: sized(50, 10) },
  ])
  expect(partsOf(newShards(content, () => true))).toEqual([
    'base: 2 of 0',
    'base: 2 of 0',
    'base: 1 of 0, 2 of 1',
  ])
})

test('a shard has only so many files', () => {
  const many = Object.fromEntries(Array.from({ length: SHARD_FILES + 1 }, (_, file) => [`file-${file}`, 0]))
  const shards = partsOf(newShards(contentOf([{ group: 'base', files: many }]), () => true))
  expect(shards).toEqual([`base: ${SHARD_FILES} of 0`, 'base: 1 of 0'])
})

test('files that are not wanted are in none, and nothing is left of a shard that had no others', () => {
  const content = contentOf([
    { group: 'base', files: { ...one('wanted'), ...one('other') } },
    { group: 'base', files: one('other') },
  ])
  expect(partsOf(newShards(content, (path) => path === 'wanted'))).toEqual(['base: 1 of 0'])
})

/** A shard of a link, with the bytes of the files that are in it. */
interface MadeShard {
  group: string
  files: Record<string, number>
}

/** What a chain holds, as far as it is asked before anything is read. */
function contentOf(made: readonly MadeShard[]): Pick<Reconstruction, 'bytes' | 'shards' | 'baseShards'> {
  const members = made.map(({ files }) =>
    Object.entries(files).map(([path, fileBytes]) => ({ path, fileBytes }) as FinalMember),
  )
  return {
    bytes: members.flat().reduce((sum, { fileBytes }) => sum + fileBytes, 0),
    shards: made.map(({ group }) => ({ group }) as StoredShard),
    *baseShards() {
      for (const [shard, its] of members.entries()) yield { shard, members: its }
    },
  }
}
