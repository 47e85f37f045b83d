import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Cluster } from '../lab/cluster.ts'
import { Lab } from '../lab/lab.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { backUp, failureOf, listedBackups } from './commands.ts'

let lab: Lab
let clone: Cluster

/** A copy of the cluster that somebody started without a configuration of its own: it archives under the same name. */
describe.skipIf(!findPrograms() && !process.env.CI)('while a clone archives under the same name', () => {
  beforeAll(async () => {
    lab = await Lab.create({ initdb: ['--wal-segsize=1'] })
    await lab.cluster.sql('CREATE TABLE notes (note text)')
    await lab.cluster.stop()
    const directory = join(lab.scratch.path, 'clone')
    await execa('cp', ['-a', lab.cluster.dataDirectory, directory])
    clone = await lab.adopt(directory)
    await lab.cluster.start()
  })
  beforeEach((context) => void requireServer(context))
  afterAll(() => lab?.[Symbol.asyncDispose]())

  test('a backup whose segments the clone has stored does not count', async () => {
    await clone.start()
    for (let segment = 0; segment < 8; segment++) {
      await clone.sql(`INSERT INTO notes VALUES ('of the clone')`)
      await clone.archiveWal()
    }
    await clone.stop()
    await lab.cluster.sql(`INSERT INTO notes VALUES ('of the original')`)

    // All that the backup needs is there, by its names.
    const failure = await failureOf(lab, ['backup'])
    expect(failure).toMatchObject({ kind: 'conflict', exitCode: 8 })
    expect(failure.message).toMatch(
      /^WAL segment [0-9A-F]{24} in repository "local" has other bytes than this server's, so the backup cannot be recovered with it$/,
    )
    expect(await listedBackups(lab)).toEqual([])
  })

  test('a standalone backup needs nothing of it', async () => {
    await backUp(lab, ['--standalone'])
    expect(await listedBackups(lab)).toHaveLength(1)
  })
})
