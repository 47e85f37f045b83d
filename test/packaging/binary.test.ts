import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, copyFile, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { execa } from 'execa'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { folderOfPrograms } from '../backup/commands.ts'
import { Lab } from '../lab/lab.ts'
import { requireServer } from '../lab/programs.ts'
import { Scratch } from '../lab/scratch.ts'
import { asLabUser, giveToLabUser } from '../lab/user.ts'

/** What a bare system has, and the binary needs. */
const BARE = ['sh', 'tail', 'tar', 'gzip', 'mkdir', 'mv', 'rm', 'find', 'sync', 'readlink']
const ROOT = join(import.meta.dirname, '../..')

let scratch: Scratch
let binary: string
beforeEach((context) => void requireServer(context))
beforeAll(async () => {
  scratch = await Scratch.create('binary')
  await promisify(execFile)(process.execPath, ['scripts/build-binary.ts', scratch.path], { cwd: ROOT })
  await chmod(scratch.path, 0o755)
  binary = join(scratch.path, 'pgrecall')
})
afterAll(() => scratch?.[Symbol.asyncDispose]())

/** Runs it as the server's user, on a host that has neither Node nor anything else of ours. */
async function run(args: string[], home: string, { file = binary, cwd = home } = {}) {
  const { exitCode, stdout, stderr } = await execa(file, args, {
    ...asLabUser,
    cwd,
    env: { HOME: home, PATH: programs },
    extendEnv: false,
    reject: false,
  })
  return { exitCode, stdout, stderr }
}
let programs: string
beforeAll(async () => {
  programs = await folderOfPrograms(scratch, BARE)
  await chmod(programs, 0o755)
})

/** The programs that were unpacked below a home. */
async function unpacked(home: string): Promise<string[]> {
  const cache = join(home, '.cache/pgrecall')
  if (!existsSync(cache)) return []
  return (await readdir(cache)).filter((name) => name.startsWith('program-'))
}

test('the binary needs no Node: it backs up, archives, answers from its notes, and restores', async () => {
  await using lab = await Lab.create()
  const home = lab.scratch.path
  const { dataDirectory } = lab.cluster
  const pgrecall = async (...args: string[]) => {
    const result = await run(['--config', lab.configFile, ...args], home)
    expect(result).toMatchObject({ exitCode: 0 })
    return result.stdout
  }
  const held = join(home, 'held')
  const archive = `test ! -e ${held} && PATH=${programs} ${binary} --config ${lab.configFile} wal-push "%p"`
  await lab.cluster.sql(`ALTER SYSTEM SET archive_command = '${archive}'`)
  await lab.cluster.sql('SELECT pg_reload_conf()')
  expect(await pgrecall('--version')).toMatch(/^\d+\.\d+\.\d+$/)
  const { id } = JSON.parse(await pgrecall('backup', '--json')) as { id: string }

  // Two segments wait. As the archiver would, we push the first: the second goes along, and a note of it is left.
  await writeFile(held, '')
  const waiting = [await endSegment(lab, 'CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n')]
  waiting.push(await endSegment(lab, 'INSERT INTO kept VALUES (1001)'))
  const push = (name: string) =>
    run(['--config', lab.configFile, 'wal-push', `pg_wal/${name}`], home, { cwd: dataDirectory })
  expect(await push(waiting[0]!)).toMatchObject({ exitCode: 0 })

  const restored = join(home, 'restored')
  const settings = ['--archive-mode', 'off', '--target-action', 'promote']
  await pgrecall('restore', id, '--data-directory', restored, ...settings)
  const server = await lab.adopt(restored, { settings: { archive_mode: 'off' } })
  await server.start()
  await server.waitUntil('NOT pg_is_in_recovery()')
  expect(await server.sql('SELECT count(*)::int AS rows FROM kept')).toEqual([{ rows: 1001 }])

  // The script answers from the note itself, which shows where there is no Node any more.
  const [program] = await unpacked(home)
  await rm(join(home, '.cache/pgrecall', program!, 'node_modules/.bin/node'))
  expect(await push(waiting[1]!)).toMatchObject({ exitCode: 0 })
  expect((await run(['--version'], home)).exitCode).toBe(70)
})

async function endSegment({ cluster }: Lab, statement: string): Promise<string> {
  await cluster.sql(statement)
  const [row] = await cluster.sql<{ name: string }>('SELECT pg_walfile_name(pg_switch_wal()) AS name')
  return row!.name
}

test('it unpacks itself once, and all of it or nothing', async () => {
  const home = await scratch.folder('home')
  const versions = await Promise.all(Array.from({ length: 2 }, () => run(['--version'], home)))
  expect(versions.map(({ exitCode }) => exitCode)).toEqual([0, 0])
  const [program, ...others] = await unpacked(home)
  expect(others).toEqual([])
  const node = join(home, '.cache/pgrecall', program!, 'node_modules/.bin/node')
  const before = await stat(node)
  await run(['--version'], home)
  expect((await stat(node)).ino).toBe(before.ino)

  const cut = join(scratch.path, 'cut')
  await copyFile(binary, cut)
  await truncate(cut, 1_000_000)
  await giveToLabUser(cut)
  const other = await scratch.folder('other-home')
  const failure = await run(['--version'], other, { file: cut })
  expect(failure).toMatchObject({ exitCode: 70, stderr: expect.stringContaining('see that it is whole') })
  // PostgreSQL must not take it for the end of the WAL.
  expect((await run(['wal-fetch', '000000010000000000000001', 'x'], other, { file: cut })).exitCode).toBe(200)
  expect(await unpacked(other)).toEqual([])
})
