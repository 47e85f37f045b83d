import { execa } from 'execa'
import { cleanEnvironment } from '../test/lab/environment.ts'
import { asLabUser } from '../test/lab/user.ts'
import type { Ground } from './ground.ts'
import {
  bytesReadBy,
  cpuSecondsOf,
  cpuSecondsOfMachine,
  MemoryWatch,
  untilWalsendersEnd,
} from './processes.ts'

/** What is run and timed, as the lab's user. */
export interface Command {
  program: string
  args: string[]
  /** Beside PATH and HOME. */
  env?: Record<string, string>
}

export interface Measured {
  seconds: number
  /** User and system time of the command and all its descendants. */
  cpuSeconds: number
  /** What the server and its children used meanwhile: a walsender that reads, an archive_command. */
  serverCpuSeconds: number
  /** What all else on the machine used meanwhile: the kernel that writes to the disk, and whoever disturbs. */
  otherCpuSeconds: number
  /** Highest sum of the memory of the command's processes, without page cache. */
  peakBytes: number
  /** What the command and all its descendants read of files and pipes, be it from the disk or from the page cache. */
  readBytes: number
  /** The same of the server and its children meanwhile. */
  serverReadBytes: number
}

/** The shell tells, on descriptor 3, the CPU time and the reading of all that it and the command waited for. */
const TIMED = '"$@" 3>&-; code=$?; { times; cat /proc/$$/io; } >&3; exit $code'

/** @throws with the command's own words when it fails */
export async function measure(
  command: Command,
  { scratch, serverPid }: Pick<Ground, 'scratch' | 'serverPid'>,
): Promise<Measured> {
  const [serverBefore, machineBefore] = [cpuSecondsOf(serverPid()), cpuSecondsOfMachine()]
  const serverReadBefore = bytesReadBy(serverPid())
  const began = performance.now()
  const running = execa('sh', ['-c', TIMED, 'sh', command.program, ...command.args], {
    ...asLabUser,
    cwd: scratch.path,
    env: cleanEnvironment(scratch.path, command.env),
    extendEnv: false,
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
  })
  using memory = new MemoryWatch(running.pid!)
  const { stdio } = await running
  const seconds = (performance.now() - began) / 1000
  const told = String(stdio[3])
  const cpuSeconds = cpuSecondsOfTimes(told)
  await untilWalsendersEnd(serverPid())
  const serverCpuSeconds = cpuSecondsOf(serverPid()) - serverBefore
  const otherCpuSeconds = Math.max(0, cpuSecondsOfMachine() - machineBefore - cpuSeconds - serverCpuSeconds)
  return {
    seconds,
    cpuSeconds,
    serverCpuSeconds,
    otherCpuSeconds,
    peakBytes: memory.peakBytes,
    readBytes: Number(/^rchar: (\d+)/m.exec(told)![1]),
    serverReadBytes: bytesReadBy(serverPid()) - serverReadBefore,
  }
}

/** Of the two lines that `times` prints, the second is about the children: `1m2.34s 0m5.67s`. */
function cpuSecondsOfTimes(text: string): number {
  const children = text.trim().split('\n')[1]
  if (!children) throw new Error(`sh's times answered ${JSON.stringify(text)}`)
  return [...children.matchAll(/(\d+)m([\d.]+)s/g)].reduce(
    (sum, [, minutes, seconds]) => sum + Number(minutes) * 60 + Number(seconds),
    0,
  )
}
