import { chmod, open, rename, rm } from 'node:fs/promises'
import { PgrecallError, reasonOf } from '../errors.ts'

/** Whoever collects what is written is somebody else. */
const FOR_ALL_TO_READ = 0o644

/**
 * Writes a text file whole: who reads it sees the old one or the new one. It ends with a newline.
 * @param mode who may read it: everybody, when left out
 * @throws PgrecallError `failed`
 */
export async function replaceFile(path: string, text: string, mode = FOR_ALL_TO_READ): Promise<void> {
  // A collector takes files by how their names end.
  const temporary = `${path}.${process.pid}.new`
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
    throw new PgrecallError('failed', `cannot write ${path}: ${reasonOf(error)}`, { cause: error })
  }
}
