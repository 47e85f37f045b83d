import { open } from 'node:fs/promises'
import { fsPath } from '../archive/file-name.ts'

/** Files that are written and wait for being synced: enough for the disk to order the writes, few enough to hold. */
export const SYNC_FILES = 256

/** Makes files durable, some side by side: the disk orders the writes better than one after another would. */
export async function syncFiles(paths: readonly string[]): Promise<void> {
  const queue = paths.values()
  const syncer = async () => {
    for (const path of queue) {
      const handle = await open(fsPath(path), 'r')
      await handle.sync().finally(() => handle.close())
    }
  }
  await Promise.all([syncer(), syncer(), syncer(), syncer()])
}
