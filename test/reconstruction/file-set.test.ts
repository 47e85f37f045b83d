import { expect, test } from 'vitest'
import { FileSet } from '../../src/reconstruction/file-set.ts'

type File = [path: string, size: number, sha256: string]

const FILES: File[] = [
  ['PG_VERSION', 3, 'aa'.repeat(32)],
  ['base/1/1259', 8192, 'bb'.repeat(32)],
  ['base/1/1260', 8192, 'bb'.repeat(32)],
]
const setOf = (files: File[]) => {
  const set = new FileSet()
  for (const file of files) set.add(...file)
  return set
}

test('the same files make the same set, in any order and in any parts', () => {
  const whole = setOf(FILES)
  expect(setOf(FILES.toReversed()).equals(whole)).toBe(true)
  const parts = new FileSet()
  parts.join(setOf(FILES.slice(2)).facts())
  parts.join(setOf(FILES.slice(0, 2)).facts())
  expect(parts.equals(whole)).toBe(true)
  expect(parts.count).toBe(3)
})

test.each<[string, File[]]>([
  ['a file less', FILES.slice(1)],
  ['a file twice', [...FILES, FILES[0]!]],
  ['another path', [['PG_VERSIOM', 3, FILES[0]![2]], ...FILES.slice(1)]],
  ['another size', [['PG_VERSION', 4, FILES[0]![2]], ...FILES.slice(1)]],
  ['another content', [['PG_VERSION', 3, 'ac'.repeat(32)], ...FILES.slice(1)]],
  ['exchanged contents', [[FILES[0]![0], 3, FILES[1]![2]], [FILES[1]![0], 8192, FILES[0]![2]], FILES[2]!]],
  ['nothing', []],
])('%s makes another set', (_what, files) => {
  expect(setOf(files).equals(setOf(FILES))).toBe(false)
})

test('names that are no text are told apart', () => {
  const sum = 'aa'.repeat(32)
  expect(setOf([['\udcfc', 1, sum]]).equals(setOf([['\udcfd', 1, sum]]))).toBe(false)
})
