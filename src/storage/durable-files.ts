import type { Stats } from 'node:fs'
import { type FileHandle, open, stat } from 'node:fs/promises'
import { systemCode } from '../errors.ts'

/** Whether a call failed because there is nothing at the path. */
export function isAbsent(error: unknown): boolean {
  const code = systemCode(error)
  return code === 'ENOENT' || code === 'ENOTDIR'
}

export async function statOrAbsent(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path)
  } catch (error) {
    if (isAbsent(error)) return undefined
    throw error
  }
}

/** Writes all of a chunk; a single call may write less. */
export async function writeAll(handle: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let done = 0; done < chunk.length; ) {
    done += (await handle.write(chunk, done, chunk.length - done)).bytesWritten
  }
}

/** Makes the names in a folder durable; one that is gone meanwhile has none. */
export async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, 'r').catch((error) => {
    if (isAbsent(error)) return undefined
    throw error
  })
  await handle?.sync().finally(() => handle.close())
}
