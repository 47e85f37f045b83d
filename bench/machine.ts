import { rm } from 'node:fs/promises'
import { cpus, loadavg, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import type { Programs } from '../test/lab/programs.ts'
import { Scratch } from '../test/lab/scratch.ts'

const WRITTEN_MIB = 1024

/** What the figures depend on. @returns names and values, in the order to show them */
export async function machineFacts(programs: Programs): Promise<Map<string, string>> {
  return new Map([
    ['date', new Date().toISOString().slice(0, 16).replace('T', ' ')],
    ['processor', `${cpus().length} × ${cpus()[0]?.model.trim()}`],
    ['memory', `${Math.round(totalmem() / 2 ** 30)} GiB`],
    ['kernel', `Linux ${release()}`],
    ['filesystem', await filesystemFacts()],
    ['load average before', loadAverage()],
    ['Node.js', process.versions.node],
    ['PostgreSQL', programs.version],
  ])
}

/** Of the last minute: what else the machine was busy with. */
export function loadAverage(): string {
  return loadavg()[0]!.toFixed(1)
}

/** Its type, and how fast it takes a long file for good: no tool that syncs can be faster. */
async function filesystemFacts(): Promise<string> {
  await using scratch = await Scratch.create('bench')
  const type = await execa('df', ['--output=fstype', scratch.path])
  const file = join(scratch.path, 'written')
  const began = performance.now()
  await execa('dd', ['if=/dev/zero', `of=${file}`, 'bs=1M', `count=${WRITTEN_MIB}`, 'conv=fsync'])
  const seconds = (performance.now() - began) / 1000
  await rm(file)
  const rate = Math.round((WRITTEN_MIB * 2 ** 20) / 1e6 / seconds)
  return `${type.stdout.split('\n')[1]?.trim()}, takes ${rate} MB/s of a long file, synced`
}
