import { closeSync, openSync, writeSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { TarReader } from '../archive/tar.ts'
import { PgrecallError } from '../errors.ts'

/**
 * Unpacks a dump of the directory format: plain files in one folder.
 * @param folder is made
 * @throws PgrecallError `damaged` for anything else
 */
export async function unpackFolder(tar: AsyncIterable<Buffer>, folder: string): Promise<void> {
  await mkdir(folder, { mode: 0o700 })
  let open: number | undefined
  const reader = new TarReader(({ path, type }) => {
    if (type === 'directory') return undefined
    const name = basename(path)
    if (type !== 'file' || !/^[\w-]+(?:\.\w+)*$/.test(name))
      throw new PgrecallError('damaged', `the dump has a member "${path}", as no dump of a database has`)
    const file = openSync(join(folder, name), 'wx', 0o600)
    open = file
    return {
      write: (bytes) => writeAll(file, bytes),
      end: () => {
        closeSync(file)
        open = undefined
      },
    }
  })
  try {
    for await (const piece of tar) reader.push(piece)
    reader.finish()
  } finally {
    if (open !== undefined) closeSync(open)
  }
}

function writeAll(file: number, bytes: Buffer): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at)
}
