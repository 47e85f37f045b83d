import { spawnSync } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { GetObjectCommand, paginateListObjectsV2 } from '@aws-sdk/client-s3'
import { execa } from 'execa'
import { beforeEach, describe, expect, test } from 'vitest'
import { backUp, folderOfPrograms } from '../backup/commands.ts'
import { tableChecksums } from '../lab/checksums.ts'
import { gatewayMissing } from '../lab/gateway.ts'
import { Lab } from '../lab/lab.ts'
import { requireServer } from '../lab/programs.ts'
import { asLabUser, giveToLabUser } from '../lab/user.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
/** All that RESTORE.txt and the restore_command that it leaves may run. */
const PROGRAMS = 'sh tar age zstd find mkdir chmod ln ls cat cp rm touch dirname'.split(' ')

describe.skipIf(gatewayMissing())('a bucket that is lost to pgrecall', () => {
  beforeEach((context) => void requireServer(context))

  test('restores by hand: an S3 client fetches the objects, then age, zstd and tar do the rest', async () => {
    await using lab = await Lab.create({ repositories: { bucket: 's3' }, encrypted: true })
    await lab.cluster.sql('CREATE TABLE numbers AS SELECT generate_series(1, 10000) AS n')
    const record = await backUp(lab)
    await lab.cluster.sql('INSERT INTO numbers VALUES (10001)')
    const before = await tableChecksums(lab.cluster)
    await lab.cluster.archiveWal()
    await lab.cluster.stop()

    const folder = await fetchAll(lab)
    const DATA = join(lab.scratch.path, 'by hand')
    const path = await folderOfPrograms(lab.scratch, PROGRAMS)
    const IDENTITY = join(lab.scratch.path, 'identity.txt')
    const env = { PATH: path, HOME: lab.scratch.path, DATA, IDENTITY }
    const script = join(folder, 'main/backups', record.id, 'RESTORE.txt')
    const options = { ...asLabUser, cwd: lab.scratch.path, env, extendEnv: false }
    const { stderr } = await execa(join(path, 'sh'), [script], options)
    expect(stderr).toBe('')

    const server = await lab.adopt(DATA, { settings: { archive_mode: 'off' } })
    await server.start()
    await server.waitForPromotion()
    expect(await tableChecksums(server)).toEqual(before)
  })

  test('the quickstart runs in a bucket, encrypted', () => {
    const args = ['scripts/quickstart.ts', '--s3', '--encrypt', '--scale', '1']
    const run = spawnSync(process.execPath, args, { cwd: ROOT, encoding: 'utf8', timeout: 240_000 })
    expect(run.stderr).not.toContain('failed')
    expect(run.stdout).toContain('Recovered')
    expect(run.status).toBe(0)
  })
})

/** Every object of the lab's bucket as a file, by its key. @returns the folder */
async function fetchAll(lab: Lab): Promise<string> {
  const { client } = lab.gateway!
  const { bucket } = lab.repositories.bucket!.configuration as { bucket: string }
  const folder = await lab.scratch.folder('fetched')
  for await (const { Contents = [] } of paginateListObjectsV2({ client }, { Bucket: bucket })) {
    for (const { Key } of Contents) {
      const file = join(folder, Key!)
      await mkdir(dirname(file), { recursive: true })
      const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key }))
      await writeFile(file, await Body!.transformToByteArray())
    }
  }
  await execa('chown', ['-R', '--reference', lab.scratch.path, folder])
  await giveToLabUser(folder)
  return folder
}
