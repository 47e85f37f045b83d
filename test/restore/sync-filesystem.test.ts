import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { FilesystemSync, reportsErrors } from '../../src/restore/sync-filesystem.ts'

test.each([
  ['linux', '6.1.0-18-amd64', true],
  ['linux', '5.8.0', true],
  ['linux', '5.10.0-28-amd64', true],
  ['linux', '5.7.19', false],
  ['linux', '4.18.0-513.el8.x86_64', false],
  ['linux', 'unknown', false],
  ['darwin', '24.1.0', false],
])('%s %s tells of failed writes: %s', (platform, kernel, expected) => {
  expect(reportsErrors(platform, kernel)).toBe(expected)
})

test('a filesystem that is not known is synced file by file', async () => {
  // No disk stands behind it, so nothing is ever synced there.
  expect(await FilesystemSync.of(['/proc'])).toBeUndefined()
})

test('a known one is synced at once, and a failure is told with a sentence', async (context) => {
  const folder = await mkdtemp(join(tmpdir(), 'pgrecall-sync-'))
  try {
    const sync =
      (await FilesystemSync.of([folder, folder])) ??
      context.skip('the temporary folder is on no such filesystem, or the kernel or `sync` is another')
    await writeFile(join(folder, 'file'), 'content')
    sync.start()
    await sync.finish()
    await rm(folder, { recursive: true })
    const refused = { kind: 'failed', message: expect.stringContaining(folder) }
    await expect(sync.finish()).rejects.toMatchObject(refused)
    // A failure in the background is not lost.
    sync.start()
    await expect(sync.finish()).rejects.toMatchObject(refused)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})
