import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { lstat, mkdir, readdir, stat, utimes, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { LocalStorage } from '../../src/storage/local.ts'
import { openStorage } from '../../src/storage/open.ts'
import { readObject } from '../../src/storage/storage.ts'
import { poll } from '../lab/poll.ts'
import { untilGone } from '../lab/processes.ts'
import { Scratch } from '../lab/scratch.ts'
import { labUser } from '../lab/user.ts'
import { storageContract } from './contract.ts'

const isRoot = process.getuid?.() === 0
const SOURCE = fileURLToPath(new URL('../../src/storage/', import.meta.url))

let scratch: Scratch
let count = 0
const newPath = () => join(scratch.path, `repository-${++count}`)
beforeAll(async () => {
  scratch = await Scratch.create('storage')
})
afterAll(() => scratch[Symbol.asyncDispose]())

storageContract('LocalStorage', async () => {
  const path = newPath()
  return { storage: new LocalStorage(path), other: new LocalStorage(path), dispose: async () => {} }
})

const script = (path: string, body: string) => `
  const { LocalStorage } = await import(${JSON.stringify(join(SOURCE, 'local.ts'))})
  const storage = new LocalStorage(${JSON.stringify(path)})
  ${body}`

/** A process that writes an object which never ends; its temporary file has bytes when this resolves. */
async function endlessWriter(path: string) {
  const body = `
    async function* endless() {
      for (;;) {
        yield Buffer.alloc(1000, 'x')
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
    }
    await storage.put('a/unfinished', endless())`
  const args = ['--input-type=module', '-e', script(path, body)]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] })
  const exited = once(child, 'exit')
  await poll(
    async () => {
      const files = await incoming(path)
      const sizes = await Promise.all(files.map(async (file) => (await stat(file)).size))
      return sizes.some((size) => size > 0)
    },
    { what: 'the first bytes of an endless write' },
  )
  return {
    kill: async () => {
      child.kill('SIGKILL')
      await exited
      await untilGone([child.pid!])
    },
  }
}

async function incoming(path: string): Promise<string[]> {
  const folder = join(path, '.incoming')
  return (await readdir(folder).catch(() => [])).map((name) => join(folder, name))
}

describe('what a killed process leaves', () => {
  test('is never listed, and is swept when the process is gone and not before', async () => {
    const path = newPath()
    const storage = new LocalStorage(path)
    const writer = await endlessWriter(path)
    expect(await storage.sweep()).toEqual({ objects: 0, bytes: 0 })
    expect(await incoming(path)).toHaveLength(1)
    await writer.kill()
    expect(await storage.stat('a/unfinished')).toBeUndefined()
    for await (const { key } of storage.list('')) expect.fail(`${key} is listed`)
    const swept = await storage.sweep()
    expect(swept.objects).toBe(1)
    expect(swept.bytes).toBeGreaterThan(0)
    expect(await incoming(path)).toEqual([])
  })

  test('in another container with the same host name is not swept: its processes cannot be seen', async () => {
    const path = newPath()
    const storage = new LocalStorage(path)
    await storage.create()
    // No process has such a number.
    const gone = 2 ** 22 + 1
    const [own] = await incomingNameOf(path)
    const ours = join(path, '.incoming', own!.replace(/^\d+/, String(gone)))
    const theirs = join(path, '.incoming', `${gone}@${hostname()}+1@x`)
    await writeFile(ours, 'left')
    await writeFile(theirs, 'under way')
    expect(await storage.sweep()).toEqual({ objects: 1, bytes: 4 })
    expect(await incoming(path)).toEqual([theirs])
  })

  test('on another host, or with a number that another process has now, is swept after a day', async () => {
    const path = newPath()
    const storage = new LocalStorage(path)
    await storage.create()
    const old = new Date(Date.now() - 25 * 3_600_000)
    const young = new Date(Date.now() - 23 * 3_600_000)
    for (const [name, time] of [
      [`${process.pid}@elsewhere@1`, old],
      [`${process.pid}@elsewhere@2`, young],
      [`${process.ppid}@elsewhere@3`, old],
    ] as const) {
      await writeFile(join(path, '.incoming', name), 'left')
      await utimes(join(path, '.incoming', name), time, time)
    }
    const [own] = await incomingNameOf(path)
    await writeFile(join(path, '.incoming', own!), 'left by an earlier process of this number')
    await utimes(join(path, '.incoming', own!), old, old)
    expect((await storage.sweep()).objects).toBe(3)
    expect(await incoming(path)).toEqual([join(path, '.incoming', `${process.pid}@elsewhere@2`)])
  })

  /** The name that a write of this very process has. */
  async function incomingNameOf(path: string): Promise<string[]> {
    let names: string[] = []
    const source = async function* () {
      names = await readdir(join(path, '.incoming'))
      yield Buffer.from('x')
    }
    await new LocalStorage(path).put('probe', source())
    return names.filter((name) => !name.includes('elsewhere'))
  }
})

test('a probe of a folder that cannot be made says so once', async () => {
  const path = newPath()
  await writeFile(path, 'a file')
  const findings = await Array.fromAsync(new LocalStorage(join(path, 'below')).probe())
  expect(findings).toEqual([
    {
      subject: 'write an object',
      verdict: 'fail',
      text: expect.stringContaining('a file stands where a folder must be'),
    },
  ])
})

test('files have mode 0600 and folders 0700, whatever the umask is', async () => {
  const path = newPath()
  const body = `
    process.umask(0)
    await storage.put('a/b/key', Buffer.from('x'))
    await storage.put('a/b/other', Buffer.from('x'), { ifAbsent: true })`
  execFileSync(process.execPath, ['--input-type=module', '-e', script(path, body)])
  for (const folder of ['', 'a', 'a/b', '.incoming']) {
    expect((await stat(join(path, folder))).mode & 0o777, folder).toBe(0o700)
  }
  for (const file of ['a/b/key', 'a/b/other']) {
    expect((await stat(join(path, file))).mode & 0o777, file).toBe(0o600)
  }
})

describe('what is stored is durable', () => {
  /** The synced paths and the names given, in their order, as the kernel saw them. */
  function calls(path: string, body: string): string[] | undefined {
    const trace = '-f -qq -y -s 4096 -e trace=fsync,fdatasync,rename,renameat,renameat2,link,linkat'.split(
      ' ',
    )
    const node = [process.execPath, '--input-type=module', '-e', script(path, body)]
    const run = spawnSync('strace', [...trace, ...node], { encoding: 'utf8' })
    if (run.error || run.status !== 0 || /ptrace/.test(run.stderr.slice(0, 300))) return undefined
    return run.stderr.split('\n').flatMap((line) => {
      const sync = /(?:fsync|fdatasync)\(\d+<([^>]*)>/.exec(line)?.[1]
      if (sync !== undefined) return [`sync ${sync.replace(path, '').replace(/[^/]*@[^/]*/, 'TEMP')}`]
      const named = /(rename|link)[a-z0-9]*\(.*"[^"]*\.incoming[^"]*".*"([^"]+)"/.exec(line)
      return named ? [`name ${named[2]!.replace(path, '')}`] : []
    })
  }

  for (const options of ['{}', '{ ifAbsent: true }']) {
    test(`bytes, then the name, then the folder, with ${options}`, async (context) => {
      const path = newPath()
      const seen = calls(path, `await storage.put('a/key', Buffer.from('x'), ${options})`)
      if (!seen) return context.skip('there is no strace here, or it may not trace')
      const at = (call: string) => seen.indexOf(call)
      expect(at('sync /.incoming/TEMP')).toBeGreaterThanOrEqual(0)
      expect(at('name /a/key')).toBeGreaterThan(at('sync /.incoming/TEMP'))
      expect(seen.lastIndexOf('sync /a')).toBeGreaterThan(at('name /a/key'))
      // The folder's own name, in the repository, and the repository's in what is above it.
      expect(at('sync ')).toBeGreaterThanOrEqual(0)
      expect(seen).toContain(`sync ${scratch.path}`)
    })
  }

  test('also when it was there: whoever wrote it may have been killed before its folder was synced', async (context) => {
    const path = newPath()
    await new LocalStorage(path).put('a/key', Buffer.from('x'))
    const seen = calls(path, `await storage.put('a/key', Buffer.from('x'), { ifAbsent: true })`)
    if (!seen) return context.skip('there is no strace here, or it may not trace')
    expect(seen).toContain('sync /a')
  })

  test('and a removal too', async (context) => {
    const path = newPath()
    await new LocalStorage(path).put('a/key', Buffer.from('x'))
    await new LocalStorage(path).put('a/other', Buffer.from('x'))
    const seen = calls(path, `await storage.remove('a/key')`)
    if (!seen) return context.skip('there is no strace here, or it may not trace')
    expect(seen).toContain('sync /a')
  })
})

test('a worker opens the same storage by its address', async () => {
  const storage = new LocalStorage(newPath())
  await storage.put('key', Buffer.from('x'))
  expect((await readObject(openStorage(structuredClone(storage.address)), 'key'))?.toString()).toBe('x')
})

test('what is no plain file is no object: pipes, links and hidden files are neither listed nor read', async () => {
  const path = newPath()
  const storage = new LocalStorage(path)
  await storage.put('a/key', Buffer.from('x'))
  execFileSync('mkfifo', [join(path, 'a', 'pipe')])
  await writeFile(join(path, 'a', '.hidden'), 'x')
  await writeFile(join(path, 'a', 'with space'), 'x')
  const keys: string[] = []
  for await (const { key } of storage.list('')) keys.push(key)
  expect(keys).toEqual(['a/key'])
  expect(await storage.get('a/pipe')).toBeUndefined()
})

test('the folders that a removal emptied go, the repository stays', async () => {
  const path = newPath()
  const storage = new LocalStorage(path)
  await storage.put('a/b/c', Buffer.from('x'))
  await storage.remove('a/b/c')
  expect(await readdir(path)).toEqual(['.incoming'])
})

describe('run as root', () => {
  test.runIf(isRoot && labUser)('what is written belongs to the owner of the repository', async () => {
    const path = newPath()
    await mkdir(path)
    execFileSync('chown', [`${labUser!.uid}:${labUser!.gid}`, path])
    const storage = new LocalStorage(path)
    await storage.put('a/b/key', Buffer.from('x'))
    await storage.put('a/b/other', Buffer.from('x'), { ifAbsent: true })
    for (const name of ['.incoming', 'a', 'a/b', 'a/b/key', 'a/b/other']) {
      expect((await lstat(join(path, name))).uid, name).toBe(labUser!.uid)
    }
  })

  test.runIf(isRoot && labUser)('a new repository belongs to the owner of the folder above it', async () => {
    const above = join(scratch.path, `above-${++count}`)
    await mkdir(above)
    execFileSync('chown', [`${labUser!.uid}:${labUser!.gid}`, above])
    await new LocalStorage(join(above, 'repository')).put('a/key', Buffer.from('x'))
    for (const name of ['repository', 'repository/a', 'repository/a/key']) {
      expect((await lstat(join(above, name))).uid, name).toBe(labUser!.uid)
    }
  })

  test.runIf(isRoot && labUser)('a new repository is given to whom it is made for', async () => {
    const above = join(scratch.path, `above-${++count}`)
    await mkdir(above)
    const storage = new LocalStorage(join(above, 'repository'))
    await storage.create({ uid: labUser!.uid, gid: labUser!.gid })
    await storage.put('a/key', Buffer.from('x'))
    for (const name of ['repository', 'repository/.incoming', 'repository/a', 'repository/a/key']) {
      expect((await lstat(join(above, name))).uid, name).toBe(labUser!.uid)
    }
  })

  test.runIf(isRoot)('a full disk is told in a sentence, and the write leaves nothing', async (context) => {
    const path = await scratch.folder(`small-${++count}`)
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', path]).status === 0
    if (!mounted) context.skip('nothing can be mounted here')
    try {
      const storage = new LocalStorage(path)
      await storage.put('small', Buffer.from('x'))
      await expect(
        storage.put('a/large', [Buffer.alloc(700_000), Buffer.alloc(700_000)]),
      ).rejects.toMatchObject({
        kind: 'repository',
        message: `cannot write ${path}/a/large: the disk is full`,
        hint: expect.stringContaining('pgrecall retention'),
      })
      expect(await storage.stat('a/large')).toBeUndefined()
      expect(await incoming(path)).toEqual([])
      expect(await storage.put('small-again', Buffer.alloc(500_000))).toBe('stored')
      expect(await storage.freeBytes()).toBeLessThan(1024 * 1024)
    } finally {
      spawnSync('umount', [path])
    }
  })
})

test('a folder that may not be written is told in a sentence, with whom to run as', async (context) => {
  if (isRoot && !labUser) context.skip('there is no ordinary user here')
  const path = newPath()
  await new LocalStorage(path).put('a/key', Buffer.from('x'))
  execFileSync('chmod', ['-R', 'a+rX,a-w', path])
  const body = `
    const tell = (error) => console.log(JSON.stringify({ kind: error.kind, message: error.message, hint: error.hint }))
    await storage.put('a/new', Buffer.from('x')).catch(tell)
    await storage.remove('a/key').catch(tell)`
  const output = asOrdinaryUser(path, body)
  expect(output).toEqual([
    {
      kind: 'repository',
      message: `cannot write ${path}/a/new: permission denied`,
      hint: `run as the user who owns ${path}, usually postgres`,
    },
    expect.objectContaining({ message: `cannot remove ${path}/a/key: permission denied` }),
  ])
  expect(await new LocalStorage(path).stat('a/key')).toBeDefined()
})

/** Runs a script as somebody who is not root. Root gives its rights away after the imports, which others may not read. */
function asOrdinaryUser(path: string, body: string): unknown[] {
  const become = isRoot ? `process.setgid(${labUser!.gid}); process.setuid(${labUser!.uid})` : ''
  const run = spawnSync(process.execPath, ['--input-type=module', '-e', script(path, `${become}\n${body}`)], {
    encoding: 'utf8',
  })
  expect(run.stderr).toBe('')
  return run.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown)
}
