import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { damageAmong } from '../../src/backup/page-check.ts'
import { Scratch } from '../lab/scratch.ts'
import { randomPage } from '../postgres/pages.ts'
import { randomFrom } from '../random.ts'
import { copy, PAGE, PATH, START, STOP, torn } from './copied-relation.ts'

const random = randomFrom(5)
const page = (block: number, lsn: bigint) => randomPage(random, block, lsn)
const OLD = START - 1n
const OLDER = START - 0x28n

let scratch: Scratch
beforeAll(async () => {
  scratch = await Scratch.create('pages')
})
afterAll(async () => {
  await scratch[Symbol.asyncDispose]()
})

/** Three pages in a snapshot, the middle one torn and with an LSN of its own, and the same file as it lives on. */
async function snapshot(own: bigint, live: Buffer | undefined) {
  const [before, after] = [page(0, OLDER), page(2, OLDER)]
  const file = await scratch.file('snapshot', Buffer.concat([before, torn(page(1, own)), after]))
  if (!live) return { file, live: join(scratch.path, 'dropped') }
  return { file, live: await scratch.file('live', Buffer.concat([before, live, after])) }
}

// The first piece of the second one ends within the torn page.
const CUTS = [[1 << 20], [PAGE + 5000, 1 << 20]]

test.each([
  ['the live page was written since the start', OLD, page(1, STOP), true],
  ['its own header is from after the start', START, page(1, OLD), true],
  ['both say so, and one of them is from after the end', START, page(1, STOP + 1n), true],
  ['both say so, and the other one is from after the end', STOP + 1n, page(1, START), true],
  ['its own header is from after the start, and the relation was dropped', START, undefined, true],
  ['the live page was written after the end only', OLD, page(1, STOP + 1n), false],
  ['the live page is older, too', OLD, page(1, OLD), false],
  ['the live page is damaged, too', OLD, torn(page(1, STOP)), false],
  ['the live page is that of another block', OLD, page(7, STOP), false],
  ['the relation was dropped', OLD, undefined, false],
  ['its own LSN is garbage', STOP + 1n, page(1, OLD), false],
])('a wrong page of a snapshot: %s', async (_what, own, live, isRepaired) => {
  for (const pieces of CUTS) {
    const paths = await snapshot(own, live)
    const { bytes, trouble } = copy(paths.file, { live: paths.live, pieces })
    expect(trouble).toMatchObject({ path: PATH, pages: 1, ranges: [{ block: 1, pages: 1 }] })
    expect(damageAmong([trouble!], STOP)).toHaveLength(isRepaired ? 0 : 1)
    expect(bytes.equals(readFileSync(paths.file))).toBe(true)
  }
})

test('what is found out about the live page does not count as seen in the copy', async () => {
  const paths = await snapshot(OLD, page(1, OLD))
  expect(copy(paths.file, { live: paths.live }).lastLsn).toBe('0/5000000')
})

test('a page that was just being added in the snapshot is no trouble when the live file has it', async () => {
  const whole = Buffer.concat([page(0, OLD), page(1, STOP)])
  const file = await scratch.file('snapshot', whole.subarray(0, PAGE + 4096))
  const live = await scratch.file('live', whole)
  expect(copy(file, { live }).trouble).toBeUndefined()
  expect(copy(file, { live: file }).trouble).toMatchObject({ pages: 0, remainder: 4096 })
  expect(copy(file, { live: join(scratch.path, 'dropped') }).trouble).toMatchObject({ remainder: 4096 })
})
