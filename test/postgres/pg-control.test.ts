import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { formatLsn } from '../../src/postgres/lsn.ts'
import { readControlFile } from '../../src/postgres/pg-control.ts'
import { Cluster } from '../lab/cluster.ts'
import { findPrograms } from '../lab/programs.ts'

test.skipIf(!findPrograms() && !process.env.CI).each([true, false])(
  'says what pg_controldata says, with checksums %s',
  async (checksums) => {
    await using cluster = await Cluster.create({ checksums, initdb: ['--wal-segsize=4'] })
    await cluster.sql('SELECT txid_current()')
    const file = join(cluster.dataDirectory, 'global/pg_control')
    expect(readControlFile(await readFile(file))?.state).toBe('running')
    await cluster.stop()
    const bytes = await readFile(file)
    const control = readControlFile(bytes)!
    const said = new Map(
      (await cluster.run('pg_controldata', [cluster.dataDirectory])).split('\n').map((line) => {
        const colon = line.indexOf(':')
        return [line.slice(0, colon), line.slice(colon + 1).trim()]
      }),
    )
    const [epoch, xid] = said.get("Latest checkpoint's NextXID")!.split(':')
    expect(control).toEqual({
      systemIdentifier: said.get('Database system identifier'),
      controlVersion: Number(said.get('pg_control version number')),
      catalogVersion: Number(said.get('Catalog version number')),
      state: said.get('Database cluster state'),
      time: control.time,
      checkpoint: {
        lsn: control.checkpoint.lsn,
        redo: control.checkpoint.redo,
        timeline: Number(said.get("Latest checkpoint's TimeLineID")),
        nextXid: (BigInt(epoch!) << 32n) | BigInt(xid!),
      },
      blockBytes: Number(said.get('Database block size')),
      relationSegmentBlocks: Number(said.get('Blocks per segment of large relation')),
      walSegmentBytes: 4 * 1024 * 1024,
      dataChecksums: checksums,
    })
    expect(formatLsn(control.checkpoint.lsn)).toBe(said.get('Latest checkpoint location'))
    expect(formatLsn(control.checkpoint.redo)).toBe(said.get("Latest checkpoint's REDO location"))
    expect(Math.abs(control.time * 1000 - Date.parse(said.get('pg_control last modified')!))).toBeLessThan(
      86_400_000,
    )
    bytes[20]! ^= 1
    expect(readControlFile(bytes)).toBeUndefined()
  },
)
