import { expect, test } from 'vitest'
import { nameFromBytes } from '../../src/archive/file-name.ts'
import { SourceList } from '../../src/backup/source-list.ts'

const MIB = 1024 * 1024

test('folders come first, then large files, the largest first, then the small ones', () => {
  const list = new SourceList()
  list.addFiles('', [{ name: 'PG_VERSION', size: 3 }])
  list.addFolder('base/5')
  list.addFolder('base')
  list.addFiles('base/5', [
    { name: '1259', size: 8192 },
    { name: '16384', size: MIB },
    { name: '16384.1', size: 3 * MIB },
    { name: '2600', size: 0 },
  ])
  expect([...list]).toEqual([
    { path: 'base', size: 0, directory: true },
    { path: 'base/5', size: 0, directory: true },
    { path: 'base/5/16384.1', size: 3 * MIB },
    { path: 'base/5/16384', size: MIB },
    { path: 'PG_VERSION', size: 3 },
    { path: 'base/5/1259', size: 8192 },
    { path: 'base/5/2600', size: 0 },
  ])
  expect(list).toMatchObject({ files: 5, bytes: 4 * MIB + 8195 })
})

test('names of any bytes come back as they were', () => {
  const names = ['a\nb', 'Größe', nameFromBytes(Buffer.from('gr\xfcn', 'latin1')), '', ' '].filter(Boolean)
  const list = new SourceList()
  list.addFiles(
    'odd',
    names.map((name) => ({ name, size: 1 })),
  )
  expect([...list].map(({ path }) => path)).toEqual(names.map((name) => `odd/${name}`))
})
