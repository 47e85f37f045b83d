import { existsSync } from 'node:fs'
import { readdir, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { walKey } from '../../src/catalog/layout.ts'
import { Lab } from '../lab/lab.ts'
import { poll } from '../lab/poll.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'

const LIMIT_MB = 64

test.skipIf(!findPrograms() && !process.env.CI)(
  'with queueMax a server whose repository is away keeps its disk free, and the gap is told when it is back',
  async (context) => {
    requireServer(context)
    await using lab = await Lab.create({
      initdb: ['--wal-segsize=4'],
      configure: ({ clusters }) => Object.assign(clusters.main!, { wal: { queueMax: `${LIMIT_MB}MB` } }),
    })
    const { cluster } = lab
    const status = join(cluster.dataDirectory, 'pg_wal', 'archive_status')
    const waiting = async () => (await readdir(status)).filter((name) => name.endsWith('.ready'))
    await cluster.sql('CREATE TABLE filler (n int)')
    await cluster.archiveWal()
    await rename(lab.repository, `${lab.repository}.unmounted`)

    // Below the limit everything waits.
    for (let n = 0; n < 10; n++) await switchWal()
    expect(await waiting()).toHaveLength(10)
    for (let n = 0; n < 15; n++) await switchWal()
    await poll(async () => (await waiting()).length * 4 <= LIMIT_MB, { what: 'the queue to become short' })
    expect((await waiting()).length).toBeGreaterThan(8)
    expect(cluster.logText()).toContain('was given up: more than wal.queueMax waits')

    await rename(`${lab.repository}.unmounted`, lab.repository)
    await switchWal()
    await cluster.archiveWal()
    await poll(async () => (await waiting()).length === 0, { what: 'the rest to be archived' })
    const dropped = (await readdir(join(lab.repository, 'main/wal/00000001/00000000')))
      .filter((name) => name.endsWith('.dropped.json'))
      .map((name) => name.split('.')[0]!)
    expect(dropped.length).toBeGreaterThan(5)
    for (const name of dropped) {
      const note = join(lab.repository, walKey('main', name).replace('.zst', '.dropped.json'))
      expect(JSON.parse(await readFile(note, 'utf8'))).toMatchObject({
        format: 1,
        segment: name,
        reason: expect.stringContaining('repository'),
      })
      expect(existsSync(join(lab.repository, walKey('main', name)))).toBe(false)
    }
    expect(await readdir(join(cluster.dataDirectory, 'pg_wal/pgrecall/dropped'))).toEqual([])
    const listed = await lab.pgrecall(['list'])
    expect(listed.stdout).toContain('The archive has holes')

    async function switchWal(): Promise<void> {
      await cluster.sql('INSERT INTO filler VALUES (1); SELECT pg_switch_wal()')
    }
  },
)
