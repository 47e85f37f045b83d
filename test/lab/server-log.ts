import { readFileSync } from 'node:fs'

/** All that a server wrote to its log so far; empty when there is none. */
export function readServerLog(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}

/** An error that ends with the last lines of the server's log, where the reason nearly always stands. */
export function errorWithLog(message: string, file: string, cause?: unknown): Error {
  const tail = readServerLog(file).trimEnd().split('\n').slice(-25).join('\n')
  return new Error(`${message}\n--- the end of ${file}:\n${tail}`, { cause })
}
