import { existsSync } from 'node:fs'
import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { walKey } from '../../src/catalog/layout.ts'
import { answerOf, backUp, failureOf, recover } from '../backup/commands.ts'
import { Lab, type LabConfiguration } from '../lab/lab.ts'
import { newKey } from '../lab/lab-repository.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { copyTo, finishSegment, SMALL_SEGMENTS, withOtherContent } from './segments.ts'

/** What this host has no secret key for. */
function withoutIdentity({ repositories }: LabConfiguration): void {
  delete (repositories.local!.encryption as { identityFile?: string }).identityFile
}

describe.skipIf(!findPrograms() && !process.env.CI)('an encrypted archive', () => {
  let lab: Lab
  let segment: string
  let path: string

  beforeAll(async () => {
    lab = await Lab.create({ ...SMALL_SEGMENTS, encrypted: true, configure: withoutIdentity })
  })
  beforeEach(async (context) => {
    requireServer(context)
    await lab.writeConfiguration(withoutIdentity)
    segment = await finishSegment(lab)
    path = join(lab.cluster.dataDirectory, 'pg_wal', segment)
    expect(await lab.pgrecall(['wal-push', path])).toMatchObject({ exitCode: 0, stderr: '' })
  })
  afterAll(() => lab?.[Symbol.asyncDispose]())

  test('takes the same segment again, and no other of its name, without a secret key', async () => {
    expect(existsSync(join(lab.repository, walKey('main', segment, 'sealed')))).toBe(true)
    expect(existsSync(join(lab.repository, walKey('main', segment)))).toBe(false)
    expect(await answerOf(lab, ['wal-push', path])).toMatchObject({
      repositories: [{ name: 'local', result: 'exists' }],
    })
    const folder = await lab.scratch.folder(`clone-${segment}`)
    const other = await copyTo(folder, path, withOtherContent)
    expect(await failureOf(lab, ['wal-push', other])).toMatchObject({ exitCode: 8, kind: 'conflict' })
  })

  test('gives its bytes to who has the key; who has not stops a recovery, or lets a standby ask again', async () => {
    const recovery = await lab.scratch.folder(`recovery-${segment}`)
    const standby = await lab.scratch.folder(`standby-${segment}`)
    await lab.scratch.file(`standby-${segment}/standby.signal`, '')
    const fetchInto = (cwd: string) => lab.pgrecall(['wal-fetch', segment, 'RECOVERYXLOG'], { cwd })
    const inRecovery = await fetchInto(recovery)
    expect(inRecovery).toMatchObject({
      exitCode: 200,
      stderr: expect.stringContaining(`${segment}.zst.age cannot be read: this host has no secret key`),
    })
    expect(inRecovery.stderr).not.toContain('    at ')
    expect((await fetchInto(standby)).exitCode).toBe(1)
    expect(await readdir(recovery)).toEqual([])
    // What comes after the end needs no key to be known as that.
    const after = await lab.pgrecall(['wal-fetch', '0000000100000000000000F0', 'RECOVERYXLOG'], {
      cwd: recovery,
    })
    expect(after).toMatchObject({ exitCode: 1, stderr: '' })

    await lab.writeConfiguration()
    expect(await fetchInto(recovery)).toMatchObject({ exitCode: 0, stderr: '' })
    expect((await readFile(join(recovery, 'RECOVERYXLOG'))).equals(await readFile(path))).toBe(true)
  })

  test('stops a recovery whose key is another one, and whose object was changed', async () => {
    const recovery = await lab.scratch.folder(`wrong-${segment}`)
    const other = await newKey(lab.scratch)
    await lab.writeConfiguration(({ repositories }) => {
      repositories.local!.encryption = other
    })
    expect(await lab.pgrecall(['wal-fetch', segment, 'RECOVERYXLOG'], { cwd: recovery })).toMatchObject({
      exitCode: 200,
      stderr: expect.stringContaining('no secret key of this host fits'),
    })
    await rm(join(recovery, 'RECOVERYXLOG'), { force: true })
    expect(await readdir(recovery)).toEqual([])
  })
})

test.skipIf(!findPrograms() && !process.env.CI)(
  'encryption is switched on in the middle of an archive, and a recovery goes across',
  async (context) => {
    requireServer(context)
    await using lab = await Lab.create({ initdb: ['--wal-segsize=1'] })
    const { cluster } = lab
    await cluster.sql('CREATE TABLE steps (n int)')
    await backUp(lab)
    const takeSteps = async (first: number) => {
      for (let n = first; n < first + 8; n++)
        await cluster.sql(`INSERT INTO steps VALUES (${n}); SELECT pg_switch_wal()`)
      return cluster.archiveWal()
    }
    const before = await takeSteps(1)
    const encryption = await newKey(lab.scratch)
    await lab.writeConfiguration(({ repositories }) => {
      repositories.local!.encryption = encryption
    })
    const after = await takeSteps(9)
    expect(existsSync(join(lab.repository, walKey('main', before)))).toBe(true)
    expect(existsSync(join(lab.repository, walKey('main', after, 'sealed')))).toBe(true)
    expect(existsSync(join(lab.repository, walKey('main', after)))).toBe(false)
    const [{ wal } = { wal: [] }] = await answerOf<{ wal: { ranges: unknown[] }[] }[]>(lab, ['list'])
    expect(wal[0]!.ranges).toMatchObject([{ last: after }])

    const recovered = await recover(lab, 'recovered')
    await recovered.waitForPromotion()
    expect(await recovered.sql('SELECT count(*)::int AS n FROM steps')).toEqual([{ n: 16 }])
  },
)
