import { createReadStream } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { padding, TAR_END, tarHeader } from '../archive/tar.ts'

const READ_BYTES = 1024 * 1024

/**
 * An archive of `pg_dump`'s directory format as a tar, by name: a flat folder of files that nobody writes to any more.
 * @throws Error when a file changes nevertheless
 */
export async function* folderTar(folder: string): AsyncGenerator<Buffer> {
  for (const name of (await readdir(folder)).toSorted()) {
    const path = join(folder, name)
    const { size, mtimeMs } = await stat(path)
    // Whoever unpacks it owns it.
    const facts = { mode: 0o600, mtime: Math.floor(mtimeMs / 1000), uid: 0, gid: 0 }
    yield tarHeader({ path: name, type: 'file', size, ...facts })
    let bytes = 0
    for await (const piece of createReadStream(path, { highWaterMark: READ_BYTES })) {
      bytes += piece.length
      yield piece
    }
    if (bytes !== size) throw new Error(`${path} was changed while it was read`)
    if (padding(size) > 0) yield Buffer.alloc(padding(size))
  }
  yield TAR_END
}
