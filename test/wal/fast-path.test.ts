import { existsSync } from 'node:fs'
import {
  appendFile,
  chmod,
  cp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { Lab } from '../lab/lab.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { asLabUser, giveToLabUser } from '../lab/user.ts'
import { finishSegment, objectOf, withOtherContent } from './segments.ts'

/** Nothing is archived by itself, and everything waits. */
const WAITING = {
  archive: false,
  initdb: ['--wal-segsize=1'],
  settings: { wal_keep_size: '1GB', archive_mode: 'on', archive_command: 'false' },
}

let lab: Lab
let dataDirectory: string
/** Segments that wait, oldest first; the first one is what PostgreSQL asks for. */
let segments: string[]

const pathOf = (name: string) => join(dataDirectory, 'pg_wal', name)
const noteOf = (name: string) => join(dataDirectory, 'pg_wal', 'pgrecall', 'pushed', name)

interface Pushed {
  exitCode: number | undefined
  /** Whether it was answered without Node, which at this level tells of each call. */
  fast: boolean
}

/** Calls the hook as PostgreSQL does. */
async function push(name: string, options: string[] = [], env: Record<string, string> = {}): Promise<Pushed> {
  const { exitCode, stderr } = await lab.pgrecall([...options, 'wal-push', `pg_wal/${name}`], {
    cwd: dataDirectory,
    env,
  })
  return { exitCode, fast: !stderr.includes('DEBUG') }
}

const YES = { exitCode: 0, fast: true }
const SLOWLY_YES = { exitCode: 0, fast: false }

describe.skipIf(!findPrograms() && !process.env.CI)('a segment that was archived along', () => {
  beforeAll(async () => {
    lab = await Lab.create(WAITING)
    dataDirectory = lab.cluster.dataDirectory
  })
  afterAll(() => lab?.[Symbol.asyncDispose]())

  beforeEach(async (context) => {
    requireServer(context)
    await lab.writeConfiguration(withLog)
    segments = [await finishSegment(lab), await finishSegment(lab), await finishSegment(lab)]
    await done(segments[0]!)
    expect(await push(segments[0]!)).toEqual(SLOWLY_YES)
  })

  test('is answered for without Node, by bytes that are durable', async () => {
    for (const name of segments.slice(1)) {
      expect(existsSync(objectOf(lab, name))).toBe(true)
      expect(await push(name)).toEqual(YES)
    }
    expect((await stat(noteOf(segments[1]!))).mode & 0o777).toBe(0o600)
  })

  test('is forgotten when PostgreSQL is done with it', async () => {
    for (const name of segments) await done(name)
    const next = await finishSegment(lab)
    await push(next)
    expect(await readdir(join(dataDirectory, 'pg_wal', 'pgrecall', 'pushed'))).toEqual([])
  })

  test.each([
    ['now', 0],
    ['by a clock that was set back', -3600],
    ['within the same millisecond', 0.0005],
  ])('is looked at again when its file was written to %s', async (_when, seconds) => {
    const name = segments[1]!
    const { mtimeMs } = await stat(pathOf(name))
    const changed = withOtherContent(await readFile(pathOf(name)))
    await writeFile(pathOf(name), changed)
    if (seconds !== 0) await utimes(pathOf(name), mtimeMs / 1000 + seconds, mtimeMs / 1000 + seconds)
    expect(await push(name)).toMatchObject({ exitCode: 8, fast: false })
  })

  test('is looked at again when another file has taken its name, as a recycled segment does', async () => {
    const [, old, name] = segments as [string, string, string]
    await rm(pathOf(name))
    await rename(pathOf(old), pathOf(name))
    expect((await push(name)).exitCode).toBe(9)
  })

  test.each([
    ['edited', (file: string) => appendFile(file, '\n# a comment\n')],
    [
      'replaced by an older one',
      async (file: string) => {
        await cp(file, `${file}.old`)
        await utimes(`${file}.old`, 1, 1)
        await rename(`${file}.old`, file)
      },
    ],
  ])('is looked at again when the configuration is %s', async (_how, change) => {
    await change(lab.configFile)
    await giveToLabUser(lab.configFile)
    expect(await push(segments[1]!)).toEqual(SLOWLY_YES)
    await rm(lab.configFile)
  })

  test('is looked at again when the configuration is a link that now leads elsewhere', async () => {
    // Some systems give every file of their store the same time.
    for (const store of ['one', 'two']) {
      await cp(lab.configFile, `${lab.configFile}.${store}`)
      await utimes(`${lab.configFile}.${store}`, 1, 1)
      await giveToLabUser(`${lab.configFile}.${store}`)
    }
    const link = `${lab.configFile}.link`
    await symlink(`${lab.configFile}.one`, link)
    const next = [await finishSegment(lab), await finishSegment(lab)] as const
    const call = (name: string) => push(name, ['--config', link])
    expect(await call(next[0])).toEqual(SLOWLY_YES)
    expect(await call(next[1])).toEqual(YES)
    await symlink(`${lab.configFile}.two`, `${link}.new`)
    await rename(`${link}.new`, link)
    expect(await call(next[1])).toEqual(SLOWLY_YES)
  })

  test('is looked at again when a configuration appears that goes before', async () => {
    const earlier = join(lab.scratch.path, 'earlier.yaml')
    await changeNote(segments[1]!, (text) => text.replace('end', `absent ${earlier}\nend`))
    expect(await push(segments[1]!)).toEqual(YES)
    await writeFile(earlier, '')
    expect(await push(segments[1]!)).toEqual(SLOWLY_YES)
  })

  test('is looked at again in another environment', async () => {
    expect(await push(segments[1]!, [], { AWS_ENDPOINT_URL: 'http://elsewhere' })).toEqual(SLOWLY_YES)
  })

  test('is looked at again after the server was started again', async () => {
    await lab.cluster.stop()
    await lab.cluster.start()
    expect(await push(segments[1]!)).toEqual(SLOWLY_YES)
  })

  test.each(['bash', 'busybox', 'mksh', 'ksh', 'zsh'])(
    'is answered for by %s as well, or looked at again',
    async (shell) => {
      const version = await execa(shell, ['-c', ':'], { reject: false })
      if (version.exitCode !== 0) return
      const name = segments[1]!
      const call = async () => {
        const args = [lab.product.launcher, '--config', lab.configFile, 'wal-push', `pg_wal/${name}`]
        const all = shell === 'busybox' ? ['sh', ...args] : args
        const env = { PATH: process.env.PATH ?? '', HOME: lab.scratch.path }
        return execa(shell, all, { ...asLabUser, cwd: dataDirectory, env, extendEnv: false, reject: false })
      }
      expect((await call()).exitCode).toBe(0)
      const { mtimeMs } = await stat(pathOf(name))
      await writeFile(pathOf(name), withOtherContent(await readFile(pathOf(name))))
      await utimes(pathOf(name), mtimeMs / 1000 + 0.005, mtimeMs / 1000 + 0.005)
      expect((await call()).exitCode).toBe(8)
    },
  )

  test('is looked at again by a call with other options', async () => {
    expect(await push(segments[1]!, ['--cluster', 'main'])).toEqual(SLOWLY_YES)
  })

  test('is looked at again when its object is gone from the repository', async () => {
    await rm(objectOf(lab, segments[1]!))
    expect(await push(segments[1]!)).toEqual(SLOWLY_YES)
    expect(existsSync(objectOf(lab, segments[1]!))).toBe(true)
  })

  test.each([
    ['was cut off', (text: string) => text.slice(0, -'end\n'.length)],
    ['is empty', () => ''],
    ['is from before the machine was started', (text: string) => text.replace(/boot \w{8}/, 'boot 00000000')],
    ['is of another format', (text: string) => text.replace('pgrecall 1', 'pgrecall 2')],
    ['has a line that nobody knows', (text: string) => text.replace('end', 'unless it rains\nend')],
  ])('is looked at again when its note %s', async (_how, change) => {
    await changeNote(segments[1]!, change)
    expect(await push(segments[1]!)).toEqual(SLOWLY_YES)
  })

  test.each([/\d$/, /\.from$/, /\.file$/])(
    'is looked at again when the stamp %s of the configuration is gone',
    async (which) => {
      const folder = join(dataDirectory, 'pg_wal', 'pgrecall', 'config')
      for (const entry of await readdir(folder)) if (which.test(entry)) await rm(join(folder, entry))
      expect((await push(segments[1]!)).fast).toBe(false)
    },
  )

  test('is stored in every repository, or not answered for', async () => {
    const away = join(lab.scratch.path, 'second')
    await lab.writeConfiguration((configuration) => {
      withLog(configuration)
      configuration.repositories.second = { type: 'local', path: away }
      configuration.clusters.main!.repositories = ['local', 'second']
    })
    const next = [await finishSegment(lab), await finishSegment(lab)] as const
    await chmod(away, 0o000)
    await rename(away, `${away}.unmounted`)
    expect((await push(next[0])).exitCode).toBe(7)
    expect(existsSync(objectOf(lab, next[0]))).toBe(true)
    expect((await push(next[1])).exitCode).toBe(7)
    await rename(`${away}.unmounted`, away)
    await chmod(away, 0o700)
    expect(await push(next[0])).toEqual(SLOWLY_YES)
    expect(await push(next[1])).toEqual(YES)
    expect(existsSync(objectOf(lab, next[1], away))).toBe(true)
  })

  test('says nothing about the same name in a clone, whose bytes are others', async () => {
    const clone = join(lab.scratch.path, 'clone')
    await cp(dataDirectory, clone, { recursive: true, preserveTimestamps: true })
    await execa('chown', ['-R', String((await stat(dataDirectory)).uid), clone])
    const name = segments[2]!
    await writeFile(join(clone, 'pg_wal', name), withOtherContent(await readFile(pathOf(name))))
    const refused = await lab.pgrecall(['wal-push', `pg_wal/${name}`], { cwd: clone })
    expect(refused.exitCode).toBe(8)
    expect(refused.stderr).toContain('other bytes')
    expect(await push(name)).toEqual(YES)
  })

  /** Gives a note another text, and leaves its time. */
  async function changeNote(name: string, change: (text: string) => string): Promise<void> {
    const { mtimeMs } = await stat(noteOf(name))
    await writeFile(noteOf(name), change(await readFile(noteOf(name), 'utf8')))
    await utimes(noteOf(name), mtimeMs / 1000 + 1, mtimeMs / 1000 + 1)
  }

  async function done(name: string): Promise<void> {
    const status = join(dataDirectory, 'pg_wal', 'archive_status')
    for (const ready of await readdir(status)) {
      if (ready.endsWith('.ready') && ready.slice(0, -'.ready'.length) <= name && ready !== `${name}.ready`)
        await rename(join(status, ready), join(status, ready.replace('.ready', '.done')))
    }
    if (name !== segments[0])
      await rename(join(status, `${name}.ready`), join(status, `${name}.done`)).catch(() => {})
  }
})

function withLog(configuration: Record<string, unknown>): void {
  configuration.log = { level: 'debug' }
}
