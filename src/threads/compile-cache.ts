import module from 'node:module'
import { getEnvironmentData, isMainThread, setEnvironmentData } from 'node:worker_threads'

const FOLDER = 'pgrecall compile cache'

/** Turns the compile cache on, in this thread and in all that it starts. @param folder ours alone: what is in it is executed */
export function useCompileCache(folder: string): void {
  module.enableCompileCache(folder)
  setEnvironmentData(FOLDER, folder)
}

// A thread does not inherit it: without it, each would compile the S3 client anew.
const folder = getEnvironmentData(FOLDER)
if (!isMainThread && typeof folder === 'string') module.enableCompileCache(folder)
