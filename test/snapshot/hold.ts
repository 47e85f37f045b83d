// Run by tests as a process of its own, to be killed or to be another user: makes snapshots, tells where they are, and
// removes them when its input ends.
import { text } from 'node:stream/consumers'
import { openSnapshots } from '../../src/snapshot/open.ts'
import type { SnapshotOptions } from '../../src/snapshot/options.ts'
import { programRunner } from '../../src/snapshot/run.ts'

export interface HoldRequest {
  options: SnapshotOptions
  folders: string[]
  name: string
}

const { options, folders, name } = JSON.parse(process.argv[2]!) as HoldRequest
const snapshots = openSnapshots(options, { run: programRunner(), isEmptied: () => false })
await snapshots.check(folders)
const set = await snapshots.create(folders, name, new AbortController().signal)
process.stdout.write(`${JSON.stringify([...set.views])}\n`)
await text(process.stdin)
await set.remove()
