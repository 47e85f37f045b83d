import { chmod, open, rename, rm, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { PgrecallError, reasonOf, systemCode } from '../errors.ts'

/** Whoever collects what is written is somebody else. */
const FOR_ALL_TO_READ = 0o644

/**
 * Writes a text file whole: who reads it sees the old one or the new one. It ends with a newline.
 * @param mode who may read it: everybody, when left out
 * @throws PgrecallError `usage` where nothing can be written by that name, otherwise `failed`
 */
export async function replaceFile(path: string, text: string, mode = FOR_ALL_TO_READ): Promise<void> {
  // A collector takes files by how their names end.
  const temporary = `${path}.${process.pid}.new`
  const there = await stat(path).catch(() => undefined)
  if (there?.isDirectory()) {
    throw new PgrecallError('usage', `cannot write ${path}: it is a folder`, { hint: 'name a file in it' })
  }
  try {
    await rm(temporary, { force: true })
    const file = await open(temporary, 'wx', mode)
    try {
      await file.writeFile(text.endsWith('\n') ? text : `${text}\n`)
      await file.sync()
    } finally {
      await file.close()
    }
    await chmod(temporary, mode)
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {})
    if (systemCode(error) === 'ENOENT') {
      throw new PgrecallError('usage', `cannot write ${path}: there is no folder ${dirname(path)}`, {
        hint: 'make it, or name another file',
        cause: error,
      })
    }
    throw new PgrecallError('failed', `cannot write ${path}: ${reasonOf(error)}`, { cause: error })
  }
}
