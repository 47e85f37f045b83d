import { mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, type TestContext, test } from 'vitest'
import { type Lab, makeRepository } from '../lab/lab.ts'
import { requireServer } from '../lab/programs.ts'
import { giveToLabUser } from '../lab/user.ts'
import { succeed } from './killed.ts'
import { debrisIn, idsOf, inspect, readSegment } from './repository.ts'
import { isStartable, problemsInRestored, target } from './restored.ts'
import { SmallDisk } from './small-disk.ts'
import { createSmallLab } from './small-lab.ts'

const BACKUP = ['backup', '--standalone', '--jobs', '2']
const options = { timeout: 180_000 }

test('a backup that fills the disk fails with a sentence and leaves nothing', options, async (context) => {
  await using lab = await labOf(context)
  await using disk = await repositoryOnDisk(context, lab, 8)
  await addNoise(lab, 12)
  const free = await disk.freeBytes()
  const { exitCode, stderr } = await lab.pgrecall(BACKUP)
  expect(stderr).toMatch(/^pgrecall: cannot write .*: the disk is full$/m)
  expect(stderr).toMatch(/^hint: /m)
  expect(exitCode).toBe(7)
  expect(await idsOf(lab)).toEqual([])
  expect(await debrisIn(lab.repository)).toEqual([])
  // A few small files say whose repository it is.
  expect(free - (await disk.freeBytes())).toBeLessThan(64 * 1024)

  await disk.resize(64)
  await succeed(lab, BACKUP)
  expect(await inspect(lab)).toEqual({ ids: [expect.any(String)], problems: [] })
})

test('a backup that fills one of two disks is whole on the other', options, async (context) => {
  await using lab = await labOf(context)
  const small = join(lab.scratch.path, 'small')
  await using disk = await diskAt(context, small, 8)
  await makeRepository(small)
  await lab.writeConfiguration(({ repositories, clusters }) => {
    repositories.small = { type: 'local', path: small }
    clusters.main!.repositories = ['local', 'small']
  })
  await addNoise(lab, 12)
  const free = await disk.freeBytes()
  const { exitCode, stdout, stderr } = await lab.pgrecall(BACKUP)
  expect(stderr).toMatch(/^warning: no backup in repository "small": cannot write .*: the disk is full$/m)
  expect(stdout).toMatch(/^It is in "local".$/m)
  expect(stdout).toMatch(/^It is NOT in "small": .* the disk is full$/m)
  expect(exitCode).toBe(7)
  expect(await debrisIn(small)).toEqual([])
  expect(free - (await disk.freeBytes())).toBeLessThan(64 * 1024)
  const named = async (name: string) => {
    const { stdout: text } = await succeed(lab, ['list', '--json', '--repository', name])
    return (JSON.parse(text) as [{ backups: { id: string }[] }])[0].backups.map(({ id }) => id)
  }
  expect([await named('local'), await named('small')]).toEqual([[expect.any(String)], []])

  await disk.resize(64)
  await succeed(lab, BACKUP)
  const [here, there] = [await named('local'), await named('small')]
  expect([here.length, there]).toEqual([2, here.slice(1)])
})

test('a backup that clearly will not fit is refused before it begins', options, async (context) => {
  await using lab = await labOf(context)
  await using disk = await repositoryOnDisk(context, lab, 1)
  await addNoise(lab, 12)
  const { exitCode, stderr } = await lab.pgrecall(BACKUP)
  expect(stderr).toMatch(/has \d+ MiB free, the backup needs about \d+ MiB/)
  expect(exitCode).toBe(5)
  expect(await debrisIn(disk.path)).toEqual([])
})

test(
  'wal-push to a full disk fails so that PostgreSQL tries again, and then succeeds',
  options,
  async (context) => {
    await using lab = await labOf(context)
    await using disk = await repositoryOnDisk(context, lab, 8)
    await addNoise(lab, 4)
    const [row] = await lab.cluster.sql<{ name: string }>('SELECT pg_walfile_name(pg_switch_wal()) AS name')
    const args = ['wal-push', join('pg_wal', row!.name)]
    const cwd = lab.cluster.dataDirectory
    for (const leave of [0, 64 * 1024]) {
      await disk.fill(leave)
      const { exitCode, stderr } = await lab.pgrecall(args, { cwd })
      expect(stderr).toContain('the disk is full')
      expect(exitCode).toBe(7)
      expect(await filesBelow(disk.path)).not.toContain(`${row!.name}.zst`)
      expect(await debrisIn(disk.path)).toEqual([])
      await disk.makeRoom()
    }
    await succeed(lab, args, { cwd })
    const original = await readFile(join(cwd, 'pg_wal', row!.name))
    expect(original.equals(await readSegment(lab.repository, row!.name))).toBe(true)
  },
)

test('retention makes room on a disk that is full to the last byte', options, async (context) => {
  await using lab = await labOf(context)
  await using disk = await repositoryOnDisk(context, lab, 32)
  await succeed(lab, BACKUP)
  await succeed(lab, BACKUP)
  await disk.fill()
  const newest = (await idsOf(lab)).at(-1)
  await succeed(lab, ['retention', '--full', '1'])
  expect(await inspect(lab)).toEqual({ ids: [newest], problems: [] })
  expect(await debrisIn(disk.path)).toEqual([])
  expect(await disk.freeBytes()).toBeGreaterThan(0)
})

for (const full of ['from the beginning', 'in the middle']) {
  test(`a restore whose disk is full ${full} fails with a sentence`, options, async (context) => {
    await using lab = await labOf(context)
    await succeed(lab, BACKUP)
    await using restored = target(lab)
    await using disk = await diskAt(context, restored.path, 4)
    if (full === 'from the beginning') await disk.fill()
    const data = join(restored.path, 'data')
    const args = ['restore', '--data-directory', data]
    const { exitCode, stderr } = await lab.pgrecall(args)
    expect(stderr).toMatch(/^pgrecall: cannot .*(?:no space left on device|the disk is full)/im)
    expect(stderr).toMatch(/^hint: /m)
    expect(exitCode).toBe(11)
    expect(isStartable(data)).toBe(false)

    await using elsewhere = target(lab)
    await succeed(lab, ['restore', '--data-directory', elsewhere.path])
    expect(await problemsInRestored(lab, elsewhere.path)).toEqual([])
    await disk.resize(64)
    await succeed(lab, args)
    expect(await problemsInRestored(lab, data)).toEqual([])
  })
}

function labOf(context: TestContext): Promise<Lab> {
  requireServer(context)
  if (process.getuid?.() !== 0) context.skip('only root can mount a small file system')
  return createSmallLab({ archive: false, settings: { wal_keep_size: '256MB' } })
}

async function repositoryOnDisk(context: TestContext, lab: Lab, mebibytes: number): Promise<SmallDisk> {
  await rm(lab.repository, { recursive: true })
  const disk = await diskAt(context, lab.repository, mebibytes)
  await makeRepository(lab.repository)
  return disk
}

async function diskAt(context: TestContext, path: string, mebibytes: number): Promise<SmallDisk> {
  await mkdir(path)
  await giveToLabUser(path)
  return (await SmallDisk.mount(path, mebibytes)) ?? context.skip('mounting is not allowed here')
}

/** Random bytes, which no compression makes smaller. */
async function addNoise(lab: Lab, mebibytes: number): Promise<void> {
  const noise = `decode(${Array(8).fill('md5(random()::text)').join(' || ')}, 'hex')`
  await lab.cluster.sql(
    `CREATE TABLE noise AS SELECT ${noise} AS bytes FROM generate_series(1, ${mebibytes * 8192})`,
  )
}

async function filesBelow(folder: string): Promise<string[]> {
  return (await readdir(folder, { recursive: true })).map((path) => path.slice(path.lastIndexOf('/') + 1))
}
