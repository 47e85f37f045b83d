import { createReadStream } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { padding, TAR_END, tarHeader } from '../archive/tar.ts'

/** @see src/bin/pg_dump/pg_backup_directory.c */
const TABLE_OF_CONTENTS = 'toc.dat'
const READ_BYTES = 1024 * 1024

/**
 * An archive of `pg_dump`'s directory format as a tar: a flat folder of files that nobody writes to any more. The table of
 * contents comes first, so that whoever looks for nothing else has to read no further; the other files by name.
 * @throws Error when a file changes nevertheless
 */
export async function* folderTar(folder: string): AsyncGenerator<Buffer> {
  const names = (await readdir(folder)).filter((name) => name !== TABLE_OF_CONTENTS).toSorted()
  for (const name of [TABLE_OF_CONTENTS, ...names]) {
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
