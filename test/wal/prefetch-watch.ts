import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { READY } from '../../src/wal/spool.ts'
import { isAlive } from '../lab/processes.ts'

/** The prefetchers that work in a data directory. */
export function prefetchersOf(dataDirectory: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const words = readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0')
        return (
          words.includes('wal-prefetch') && readlinkSync(`/proc/${pid}/cwd`) === dataDirectory && isAlive(pid)
        )
      } catch {
        return false
      }
    })
}

/** The names of the segments that are ready, in their order. */
export function readySegments(dataDirectory: string): string[] {
  return namesIn(dataDirectory)
    .filter((name) => /^[0-9A-F]{24}$/.test(name))
    .toSorted()
}

/** Whether one is still being made ready: the last one may be there before those in front of it. */
export function isAnyComing(dataDirectory: string): boolean {
  return namesIn(dataDirectory).some((name) => name.endsWith('.part'))
}

/** Neither a process nor a file is left. */
export function isSwept(dataDirectory: string): boolean {
  return !existsSync(join(dataDirectory, READY)) && prefetchersOf(dataDirectory).length === 0
}

function namesIn(dataDirectory: string): string[] {
  try {
    return readdirSync(join(dataDirectory, READY))
  } catch {
    return []
  }
}

/** What pgrecall has logged at debug level: each start of Node is one line. */
export function startsOf(logFile: string, command: string): string[][] {
  return linesOf(logFile)
    .filter(({ msg }) => new RegExp(`^pgrecall \\S+ ${command}$`).test(String(msg)))
    .map((line) => line.arguments as string[])
}

/** What the prefetchers said when they ended. */
export function reportsOf(logFile: string): { segments: number; ended: string }[] {
  return linesOf(logFile)
    .filter(({ msg }) => msg === 'Prefetching is over')
    .map(({ segments, ended }) => ({ segments: Number(segments), ended: String(ended) }))
}

function linesOf(logFile: string): Record<string, unknown>[] {
  if (!existsSync(logFile)) return []
  return readFileSync(logFile, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>)
}

/** What a process has open: where its descriptors lead, by their numbers. */
export function openFilesOf(pid: number): Map<number, string> {
  const files = new Map<number, string>()
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    try {
      files.set(Number(fd), readlinkSync(`/proc/${pid}/fd/${fd}`))
    } catch {
      // It was closed in this moment.
    }
  }
  return files
}

/** The pipes and sockets among them. */
export function pipesOf(pid: number): string[] {
  return [...openFilesOf(pid).values()].filter((file) => /^(?:pipe|socket):/.test(file))
}
