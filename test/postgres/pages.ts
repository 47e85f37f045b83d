/** The checksum as the comment in src/include/storage/checksum_impl.h describes it: slow, and easy to compare. */
// biome-ignore format: a table
const OFFSETS = [
  0x5b1f36e9, 0xb8525960, 0x02ab50aa, 0x1de66d2a, 0x79ff467a, 0x9bb9f8a3, 0x217e7cd2, 0x83e13d2c,
  0xf8d4474f, 0xe39eb970, 0x42c6ae16, 0x993216fa, 0x7b093b5d, 0x98daff3c, 0xf718902a, 0x0b1c9cdb,
  0xe58f764b, 0x187636bc, 0x5d7b3bb1, 0xe73de7de, 0x92bec979, 0xcca6c0b2, 0x304a0979, 0x85aa43d4,
  0x783125bb, 0x6ca8eaa2, 0xe407eac6, 0x4b5cfc3e, 0x9fbf8c76, 0x15ca20be, 0xf2ca9fd3, 0x959bd756,
]

const take = (sum: number, value: number) => {
  const mixed = sum ^ value
  return Math.imul(mixed, 16777619) ^ (mixed >>> 17)
}

/** What belongs into `pd_checksum` of a page. */
export function checksumOf(page: Buffer, block: number): number {
  const sums = [...OFFSETS]
  for (let at = 0; at < page.length; at += 4) {
    const value = at === 8 ? page.readUInt16LE(10) << 16 : page.readInt32LE(at)
    const column = (at / 4) % 32
    sums[column] = take(sums[column]!, value)
  }
  const folded = sums.reduce((all, sum) => all ^ take(take(sum, 0), 0), 0)
  return (((folded ^ block) >>> 0) % 65535) + 1
}

/** Writes the header fields that matter into a page, and the checksum. */
export function seal(page: Buffer, block: number, lsn: bigint): Buffer {
  page.writeUInt32LE(Number(lsn >> 32n), 0)
  page.writeUInt32LE(Number(lsn & 0xffffffffn), 4)
  if (page.readUInt16LE(14) === 0) page.writeUInt16LE(page.length / 2, 14)
  page.writeUInt16LE(checksumOf(page, block), 8)
  return page
}

/** Bytes as they come. */
export function randomBytes(random: () => number, length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => Math.floor(random() * 256)))
}

/** A right page of random content. */
export function randomPage(random: () => number, block: number, lsn: bigint, pageBytes = 8192): Buffer {
  return seal(randomBytes(random, pageBytes), block, lsn)
}
