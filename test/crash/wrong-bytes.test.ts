import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { zstdCompressSync } from 'node:zlib'
import { expect, type TestContext, test } from 'vitest'
import type { Lab } from '../lab/lab.ts'
import type { RunResult } from '../lab/product.ts'
import { requireServer } from '../lab/programs.ts'
import { Chance } from './chance.ts'
import { succeed } from './killed.ts'
import { isStartable, problemsInRestored, target } from './restored.ts'
import { addTablespace, createSmallLab } from './small-lab.ts'
import { type ForgedMember, StoredBackup } from './stored-backup.ts'

/** Bits of a record that are flipped, one at a time. */
const FLIPS = 20

const options = { timeout: 180_000 }

test(
  'one flipped bit in any object that a restore reads is found, and the object named',
  options,
  async (context) => {
    await using lab = await labWithBackup(context)
    const backup = await StoredBackup.newest(lab)
    const chance = new Chance()
    for (const { name, kind, bytes } of backup.record.objects) {
      const at = chance.below(bytes)
      await backup.flip(name, at)
      const what = `bit ${at % 8} of byte ${at} of ${name} flipped (PGRECALL_CRASH_SEED=${chance.seed})`
      // The index only saves reading, and the text is for people.
      if (kind === 'index' || kind === 'text') await requireRestores(lab, what)
      else await requireRefused(lab, what, name)
      await backup.mend()
    }
    await requireRestores(lab, 'all mended')
  },
)

test('objects that are cut, lost, exchanged or lengthened are found, and named', options, async (context) => {
  await using lab = await labWithBackup(context)
  const backup = await StoredBackup.newest(lab)
  const [first, control] = [backup.shards('base')[0]!, backup.shards('base').at(-1)!]
  const space = backup.shards(backup.tablespace)[0]!
  const manifest = 'backup_manifest.zst'
  const bytes = (name: string) => backup.original(name)
  const cut = (name: string, length: number) => backup.write(name, bytes(name).subarray(0, length))
  const append = (name: string, tail: Uint8Array) => backup.write(name, Buffer.concat([bytes(name), tail]))
  const exchange = async (one: string, other: string) => {
    await backup.write(one, bytes(other))
    await backup.write(other, bytes(one))
  }
  const cases: [what: string, damage: () => Promise<unknown>, named: RegExp][] = [
    ['a shard cut in half', () => cut(first, bytes(first).length >> 1), RegExp(first)],
    ['a shard without its last byte', () => cut(control, bytes(control).length - 1), RegExp(control)],
    ['an empty shard', () => cut(first, 0), RegExp(first)],
    ['an empty manifest', () => cut(manifest, 0), RegExp(manifest)],
    ['a lost shard', () => backup.remove(first), RegExp(first)],
    ['a lost last shard', () => backup.remove(control), RegExp(control)],
    ['a lost shard of a tablespace', () => backup.remove(space), RegExp(space)],
    ['a lost manifest', () => backup.remove(manifest), RegExp(manifest)],
    ['two exchanged shards', () => exchange(first, control), RegExp(`${first}|${control}`)],
    ['exchanged with a tablespace', () => exchange(first, space), RegExp(`${first}|${space}`)],
    ['a shard and noise', () => append(first, Buffer.from('noise')), RegExp(first)],
    ['a shard and a frame', () => append(first, zstdCompressSync(Buffer.alloc(512))), RegExp(first)],
    ['a shard twice', () => append(first, bytes(first)), RegExp(first)],
    ['a manifest and noise', () => append(manifest, Buffer.from('noise')), RegExp(manifest)],
    ['an empty record', () => cut('backup.json', 0), /backup\.json/],
    ['half a record', () => cut('backup.json', 1000), /backup\.json/],
  ]
  for (const [what, damage, named] of cases) {
    await damage()
    await requireRefused(lab, what, named)
    await backup.mend()
  }
  await requireRestores(lab, 'all mended')
})

test(
  'any flipped bit of the record is found, be it known to the catalog or not',
  options,
  async (context) => {
    await using lab = await labWithBackup(context)
    const backup = await StoredBackup.newest(lab)
    const chance = new Chance()
    const { length } = backup.original('backup.json')
    for (let count = 0; count < FLIPS; count++) {
      const at = chance.below(length)
      await backup.flip('backup.json', at)
      const isKnown = count % 2 === 0
      if (!isKnown) await rm(join(lab.repository, 'main/catalog.json'))
      const what = `bit ${at % 8} of byte ${at} of backup.json flipped, ${isKnown ? '' : 'un'}known to the catalog`
      await requireRefused(lab, `${what} (PGRECALL_CRASH_SEED=${chance.seed})`, 'backup.json')
      await backup.mend()
      await succeed(lab, ['catalog', 'rebuild'])
    }
  },
)

test(
  'a hostile archive writes nothing outside of the target, though all its sums fit',
  options,
  async (context) => {
    await using lab = await labWithBackup(context)
    const backup = await StoredBackup.newest(lab)
    const [{ oid }] = (await lab.cluster.sql<{ oid: string }>(
      `SELECT oid::text FROM pg_tablespace WHERE spcname = 'space'`,
    )) as [{ oid: string }]
    const outside = join(lab.scratch.path, 'planted')
    const content = 'planted'
    const hostile: Record<string, ForgedMember[]> = {
      'up from the root': [{ name: '../../planted', content }],
      'up from a folder': [{ name: 'base/../../../planted', content }],
      'up after a dot': [{ name: './../../planted', content }],
      'an absolute path': [{ name: outside, content }],
      'a folder above': [{ name: '../../planted/', flag: '5' }],
      'up in the prefix': [{ name: 'planted', prefix: '../..', content }],
      'up in an extended header': [{ name: 'harmless', extendedName: '../../planted', content }],
      'a link and a file behind it': [
        { name: 'base/link', flag: '2', link: lab.scratch.path },
        { name: 'base/link/planted', content },
      ],
      'a hard link': [{ name: 'base/link', flag: '1', link: '/etc/passwd' }],
      'a device': [{ name: 'base/device', flag: '3' }],
      'through the link of a tablespace': [{ name: `pg_tblspc/${oid}/planted`, content }],
      'in place of the link of a tablespace': [{ name: `pg_tblspc/${oid}`, content }],
    }
    for (const [what, members] of Object.entries(hostile)) {
      for (const shard of [backup.shards('base').at(-1)!, backup.shards(oid)[0]!]) {
        // Inside of a tablespace these two are ordinary names.
        if (what.includes('tablespace') && shard.startsWith(oid)) continue
        await backup.forge(shard, members)
        await requireRefused(lab, `${what}, in ${shard}`, /archive holds|of a kind that/)
        expect(existsSync(outside), what).toBe(false)
        await backup.mend()
      }
    }
    // The forging itself is good: a member that harms nobody is restored.
    await backup.forge(backup.shards('base').at(-1)!, [{ name: 'base/harmless', content }])
    await requireRestores(lab, 'a forged but harmless member')
  },
)

async function labWithBackup(context: TestContext): Promise<Lab> {
  requireServer(context)
  const lab = await createSmallLab({ archive: false })
  await addTablespace(lab, 'space')
  await succeed(lab, ['backup', '--standalone', '--jobs', '2'])
  return lab
}

function restore(lab: Lab, folder: string): Promise<RunResult> {
  const space = `space=${join(folder, 'space')}`
  return lab.pgrecall(['restore', '--data-directory', join(folder, 'data'), '--tablespace', space])
}

/** A restore ends with the code for damage, names what is damaged, and leaves nothing that starts. */
async function requireRefused(lab: Lab, what: string, named: string | RegExp): Promise<void> {
  await using restored = target(lab)
  const { exitCode, stderr } = await restore(lab, restored.path)
  expect({ exitCode, stderr }, what).toEqual({ exitCode: 9, stderr: expect.stringMatching(named) })
  expect(isStartable(join(restored.path, 'data')), what).toBe(false)
}

async function requireRestores(lab: Lab, what: string): Promise<void> {
  await using restored = target(lab)
  const { exitCode, stderr } = await restore(lab, restored.path)
  expect({ exitCode, stderr }, what).toEqual({ exitCode: 0, stderr: expect.any(String) })
  expect(await problemsInRestored(lab, join(restored.path, 'data')), what).toEqual([])
}
