import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import { synthId } from '../../src/catalog/layout.ts'
import { acquireLock } from '../../src/catalog/lock.ts'
import { backUp, failureOf } from '../backup/commands.ts'
import { succeed } from '../crash/killed.ts'
import { backupFolder, debrisIn, inspect, lastingDebrisIn } from '../crash/repository.ts'
import { SmallDisk } from '../crash/small-disk.ts'
import { createSmallLab } from '../crash/small-lab.ts'
import { distinct, failuresOf, Stopper } from '../crash/stopped.ts'
import { type Lab, makeRepository } from '../lab/lab.ts'
import { requireServer } from '../lab/programs.ts'
import { giveToLabUser } from '../lab/user.ts'
import { consolidated } from './chains.ts'

const MIB = 1024 * 1024
const options = { timeout: 600_000 }
// With one thread the steps come in the same order each time.
const CONSOLIDATE = ['consolidate', '--jobs', '1']

let lab: Lab
beforeEach(async (context) => {
  requireServer(context)
  lab = await createSmallLab({ archive: false, settings: { wal_keep_size: '256MB' } })
})
afterEach(() => lab?.[Symbol.asyncDispose]())

/** A full backup and two incremental ones, each with its own WAL. @returns their records, oldest first */
async function takeChain(): Promise<BackupRecord[]> {
  await lab.cluster.sql('CREATE TABLE rows AS SELECT generate_series(1, 20000) AS n')
  const chain = [await backUp(lab, ['--standalone'])]
  for (const start of [1, 2]) {
    await lab.cluster.sql(`UPDATE rows SET n = -n WHERE n % 500 = ${start}`)
    chain.push(await backUp(lab, ['--type', 'incr', '--standalone']))
  }
  return chain
}

const idsOf = (chain: readonly BackupRecord[]) => chain.map(({ id }) => id)

test('a consolidation that is stopped at any of its steps is listed or done again', options, async () => {
  const chain = await takeChain()
  const synth = synthId(chain.at(-1)!.id)
  const folder = backupFolder(lab, synth)
  const stopper = await Stopper.create(lab, { [lab.repository]: 'REPOSITORY' })
  const remove = () => rm(folder, { recursive: true, force: true })
  const steps = await stopper.record((env) => lab.pgrecall(CONSOLIDATE, { env }))
  const commit = steps.findIndex(({ name }) => /^rename .*backup\.json$/.test(name))
  expect(commit).toBeGreaterThan(0)

  const failures = await failuresOf(distinct(steps), async (step) => {
    await remove()
    await stopper.stop(step, (env) => lab.pgrecall(CONSOLIDATE, { env }))
    const made = steps.indexOf(step) > commit ? [synth] : []
    expect(await inspect(lab)).toEqual({ ids: [...idsOf(chain), ...made], problems: [] })
    await succeed(lab, CONSOLIDATE)
    expect(await inspect(lab)).toEqual({ ids: [...idsOf(chain), synth], problems: [] })
    // When it was made already, nothing is left to do but to clean up.
    if (made.length > 0) await succeed(lab, ['retention', '--full', '2'])
    expect(await lastingDebrisIn(lab.repository)).toEqual([])
  })
  expect(failures).toEqual([])
})

test('a damaged link is named, and nothing is made of it', options, async () => {
  const chain = await takeChain()
  for (const { id, objects } of chain) {
    for (const { name, kind, group } of objects) {
      const isOlderWal = group === 'wal' && id !== chain.at(-1)!.id
      if (kind === 'text' || isOlderWal) continue
      const path = join(backupFolder(lab, id), name)
      const bytes = await readFile(path)
      const at = Math.floor(bytes.length / 2)
      const spoiled = Buffer.from(bytes)
      spoiled[at]! ^= 1
      await writeFile(path, spoiled)
      const { exitCode, stderr, stdout } = await lab.pgrecall(CONSOLIDATE)
      const isRead = exitCode !== 0
      // Of a shard the parts that no file of the newest link needs are not read.
      if (kind !== 'shard' || id === chain.at(-1)!.id)
        expect({ name, isRead }).toEqual({ name, isRead: true })
      if (isRead) expect(stderr).toContain(`main/backups/${id}/${name}`)
      else expect(stdout).toContain('is complete')
      await writeFile(path, bytes)
      if (isRead) {
        expect(exitCode).toBe(9)
        expect(await debrisIn(lab.repository)).toEqual([])
      }
      await lab.repositories.local!.storage.remove(`main/backups/${synthId(chain.at(-1)!.id)}/backup.json`)
      expect(await inspect(lab)).toEqual({ ids: idsOf(chain), problems: [] })
    }
  }
})

test('a disk that is too small is found full early, or nothing is left there', options, async (context) => {
  if (process.getuid?.() !== 0) context.skip('only root can mount a small file system')
  const small = join(lab.scratch.path, 'small')
  await mkdir(small)
  await giveToLabUser(small)
  await using disk = (await SmallDisk.mount(small, 128)) ?? context.skip('mounting is not allowed here')
  await makeRepository(small)
  lab.repositories.local!.configuration.path = small
  await lab.writeConfiguration()
  await backUp(lab, ['--standalone'])
  // The first link can be compressed much better than what comes now, so it is a bad guess.
  const noise = `decode(${Array(8).fill('md5(random()::text)').join(' || ')}, 'hex')`
  await lab.cluster.sql(`CREATE TABLE noise AS SELECT ${noise} AS bytes FROM generate_series(1, 98304)`)
  const { id } = await backUp(lab, ['--type', 'incr', '--standalone'])
  for (const [free, told] of [
    [MIB, { kind: 'refused', message: expect.stringMatching(/has \d+ MiB free, the backup needs/) }],
    [10 * MIB, { kind: 'repository', message: expect.stringContaining('the disk is full') }],
  ] as const) {
    await disk.fill(free)
    const before = await disk.freeBytes()
    expect(await failureOf(lab, CONSOLIDATE)).toMatchObject(told)
    expect(await debrisIn(small)).toEqual([])
    expect(Math.abs(before - (await disk.freeBytes()))).toBeLessThan(64 * 1024)
    await disk.makeRoom()
  }
  expect((await consolidated(lab)).id).toBe(synthId(id))
})

test('while a backup or another consolidation runs, it is refused', options, async () => {
  const chain = await takeChain()
  const { storage } = lab.repositories.local!
  {
    await using _lock = await acquireLock(storage, 'main', { purpose: 'backup', now: () => new Date() })
    expect(await failureOf(lab, CONSOLIDATE)).toMatchObject({
      kind: 'busy',
      message: expect.stringMatching(/is locked by backup/),
    })
    expect((await consolidated(lab, ['--dry-run'])).links).toHaveLength(3)
  }
  expect(await inspect(lab)).toEqual({ ids: idsOf(chain), problems: [] })
  await consolidated(lab)
})
