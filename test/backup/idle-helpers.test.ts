import { randomFillSync } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { copyGroups } from '../../src/backup/copy-pool.ts'
import { SourceList } from '../../src/backup/source-list.ts'
import { Events } from '../../src/events.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { Scratch } from '../lab/scratch.ts'
import { plainStoreIn } from './opened.ts'

const MIB = 1024 * 1024

/** The workers' grace is longer: who needs it hangs in a thread that nobody lets go. */
test('a copy that is stopped lets the threads go that were helping', { timeout: 10_000 }, async () => {
  await using scratch = await Scratch.create()
  const root = await scratch.folder('source')
  await writeFile(join(root, 'large'), randomFillSync(Buffer.alloc(96 * MIB)))
  const items = new SourceList()
  items.addFiles('', [{ name: 'large', size: 96 * MIB }])
  const stop = new AbortController()
  const events = new Events()
  events.on('progress', ({ bytes }) => {
    // By then the other threads have nothing of their own, and compress.
    if (bytes > 32 * MIB) stop.abort(new Error('enough'))
  })
  const copying = copyGroups([{ name: 'base', root, items }], {
    store: plainStoreIn(new LocalStorage(join(scratch.path, 'repository')), 'main/backups/x/'),
    codec: { method: 'gzip', level: 9 },
    jobs: 3,
    task: 'Copying',
    events,
    signal: stop.signal,
  })
  await expect(copying).rejects.toThrow('enough')
})
