import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import type { VerifiedBackup } from '../../src/verification/verify-repository.ts'
import { answerOf, backUp, listedBackups, recover } from '../backup/commands.ts'
import { type TableChecksum, tableChecksums } from '../lab/checksums.ts'
import { Lab } from '../lab/lab.ts'
import { newKey } from '../lab/lab-repository.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'

interface Copied {
  backups: { id: string; verdict: string; neededBy?: string }[]
}
interface Retained {
  backups: { id: string; stays: boolean; reason: string }[]
}

/** Two chains in `local`; the older one is copied into `offsite`, which encrypts. */
let lab: Lab
let older: BackupRecord[]
let newer: BackupRecord[]
let atTheEndOfOlder: TableChecksum[]

describe.skipIf(!findPrograms() && !process.env.CI)('a chain of real backups', () => {
  beforeAll(async () => {
    lab = await Lab.create()
    const { recipients, identityFile } = await newKey(lab.scratch)
    const path = join(lab.scratch.path, 'offsite')
    await lab.writeConfiguration(({ repositories }) => {
      repositories.offsite = { type: 'local', path, encryption: { recipients, identityFile } }
    })
    const { cluster } = lab
    await cluster.sql(
      'CREATE TABLE notes AS SELECT n, md5(n::text) AS text FROM generate_series(1, 20000) AS n',
    )
    older = [await backUp(lab, ['--type', 'full'])]
    for (const [type, n] of [
      ['incr', 100],
      ['incr', 200],
    ]) {
      await cluster.sql(`UPDATE notes SET text = 'changed' WHERE n = ${n}`)
      older.push(await backUp(lab, ['--type', String(type)]))
    }
    atTheEndOfOlder = await tableChecksums(cluster)
    newer = [await backUp(lab, ['--type', 'full'])]
    await cluster.sql('DELETE FROM notes WHERE n > 10000')
    newer.push(await backUp(lab, ['--type', 'diff']))
    await cluster.archiveWal()
  })
  beforeEach((context) => void requireServer(context))
  afterAll(() => lab?.[Symbol.asyncDispose]())

  const idsOf = (backups: readonly BackupRecord[]) => backups.map(({ id }) => id)

  test('is verified with all of its links', async () => {
    const [look] = await answerOf<{ backups: VerifiedBackup[] }[]>(lab, ['verify', older[2]!.id])
    expect(look!.backups.map(({ id, faults }) => [id, faults])).toEqual(older.map(({ id }) => [id, []]))
  })

  test('is shown with what each link adds', async () => {
    const { chain } = await answerOf<{ chain: { links: { id: string; changedBlocks: number | null }[] } }>(
      lab,
      ['show', older[2]!.id],
    )
    expect(chain.links.map(({ id }) => id)).toEqual(idsOf(older))
    expect(chain.links.map(({ changedBlocks }) => (changedBlocks ?? 0) > 0)).toEqual([false, true, true])
    const [state] = await answerOf<{ newestBackup: { id: string }; newestFull: { id: string } }[]>(lab, [
      'status',
    ])
    expect(state).toMatchObject({ newestBackup: { id: newer[1]!.id }, newestFull: { id: newer[0]!.id } })
  })

  test('is copied with its last backup, goes by the rule where it was, and is restored from the copy', async () => {
    const copied = await answerOf<Copied[]>(lab, ['copy', older[2]!.id, '--to', 'offsite'])
    expect(copied[0]!.backups).toEqual([
      { id: older[0]!.id, verdict: 'copy', neededBy: older[2]!.id },
      { id: older[1]!.id, verdict: 'copy', neededBy: older[2]!.id },
      { id: older[2]!.id, verdict: 'copy' },
    ])
    const retained = await answerOf<Retained[]>(lab, ['retention', '--full', '1'])
    expect(retained[0]!.backups.map(({ id, reason }) => [id, reason])).toEqual([
      ...older.map(({ id }) => [id, 'beyond the newest 1']),
      [newer[0]!.id, 'one of the newest 1'],
      [newer[1]!.id, 'follows one of the newest 1'],
    ])
    expect(await listedBackups(lab)).toEqual(idsOf(newer))
    const server = await recover(lab, 'restored', [
      '--repository',
      'offsite',
      '--immediate',
      '--target-action',
      'promote',
    ])
    await server.waitForPromotion()
    expect(await tableChecksums(server)).toEqual(atTheEndOfOlder)
    await server.stop('immediate')
  })
})
