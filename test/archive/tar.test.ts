import { execFileSync, spawnSync } from 'node:child_process'
import { mkdir, readFile, readlink, stat, symlink, truncate, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fsPath, nameFromBytes, nameToBytes } from '../../src/archive/file-name.ts'
import { padding, TAR_BLOCK, TAR_END, type TarMember, TarReader, tarHeader } from '../../src/archive/tar.ts'
import { Scratch } from '../lab/scratch.ts'
import { randomFrom } from '../random.ts'
import { has, pipeThrough } from './programs.ts'

const INVALID_UTF8 = nameFromBytes(Buffer.from('gr\xfcn', 'latin1'))
/** Too long for one field, and split into two in the older format. */
const SPLIT = `${'d'.repeat(90)}/${'e'.repeat(90)}`
const NAMES = [
  'plain',
  'Größe/日本🐘',
  INVALID_UTF8,
  `below ${INVALID_UTF8}/${'x'.repeat(120)}`,
  'a name\twith \\ odd "characters" and a\nnewline',
  ...[98, 99, 100, 101, 102, 154, 155, 156, 199, 200, 254, 255].map((length) => 'n'.repeat(length)),
  ...[256, 300, 1000].map((length) => longPath(length)),
  `Größe/${longPath(256)}`,
  SPLIT,
]
const SIZES = [0, 1, 511, 512, 513, 1024, 100_000]

let scratch: Scratch
beforeAll(async () => {
  scratch = await Scratch.create('tar')
})
afterAll(() => scratch[Symbol.asyncDispose]())

describe.runIf(has('tar'))('GNU tar reads what is written', () => {
  test.each(NAMES.map((name) => ({ name, bytes: nameToBytes(name).length })))(
    'a name of $bytes bytes: $name',
    async (name) => {
      const folder = await scratch.folder(`names-${Math.random()}`)
      const { name: path } = name
      extract(folder, archive([member({ path, size: 3 }), Buffer.from('abc')]))
      expect(await readFile(fsPath(join(folder, path)), 'utf8')).toBe('abc')
    },
  )

  test.each(SIZES)('a file of %d bytes, and the one behind it', async (size) => {
    const folder = await scratch.folder(`size-${size}`)
    const content = Buffer.alloc(size, 'c')
    extract(
      folder,
      archive([member({ path: 'a', size }), content], [member({ path: 'b', size: 1 }), Buffer.from('b')]),
    )
    expect((await readFile(join(folder, 'a'))).equals(content)).toBe(true)
    expect(await readFile(join(folder, 'b'), 'utf8')).toBe('b')
  })

  test('folders, links, modes and times', async () => {
    const folder = await scratch.folder('facts')
    const link = 'l'.repeat(150)
    extract(
      folder,
      archive(
        [member({ path: 'empty', type: 'directory', mode: 0o750 })],
        [member({ path: 'd'.repeat(100), type: 'directory' })],
        [member({ path: 'link', type: 'symlink', linkTarget: link })],
        [member({ path: 'file', mode: 0o640, mtime: 1_700_000_000 })],
      ),
    )
    expect((await stat(join(folder, 'empty'))).mode & 0o7777).toBe(0o750)
    expect((await stat(join(folder, 'd'.repeat(100)))).isDirectory()).toBe(true)
    expect(await readlink(join(folder, 'link'))).toBe(link)
    const facts = await stat(join(folder, 'file'))
    expect(facts.mode & 0o7777).toBe(0o640)
    expect(facts.mtimeMs).toBe(1_700_000_000_000)
  })

  test.each([8 * 1024 ** 3 - 1, 8 * 1024 ** 3, 8 * 1024 ** 3 + 1, 5 * 1024 ** 4])(
    'the size of a file of %d bytes',
    (size) => {
      const listed = pipeThrough(
        'sh',
        ['-c', 'tar -tvf - 2>/dev/null || true'],
        tarHeader(member({ path: 'x', size })),
      )
      expect(listed.toString()).toMatch(new RegExp(`\\s${size}\\s.*\\bx\\b`))
    },
  )

  test.each([0, 1000, 2_097_151, 2_097_152, 1_000_660_000])('an owner with the id %d', (id) => {
    const bytes = archive([member({ path: 'x', uid: id, gid: id })])
    expect(pipeThrough('tar', ['--numeric-owner', '-tvf', '-'], bytes).toString()).toContain(` ${id}/${id} `)
  })

  test('an extended header whose length takes a digit more when it counts itself', () => {
    for (let length = 80; length < 120; length++) {
      const path = `${'d'.repeat(60)}/${'e'.repeat(40)}/${'n'.repeat(length)}`
      expect(pipeThrough('tar', ['-tf', '-'], archive([member({ path })])).toString()).toBe(`${path}\n`)
    }
  })
})

describe.runIf(has('tar'))('what GNU tar writes is read', () => {
  let source: string
  beforeAll(async () => {
    source = await scratch.folder('source')
    for (const name of NAMES) {
      const path = join(source, name)
      await mkdir(fsPath(dirname(path)), { recursive: true })
      await writeFile(fsPath(path), name.slice(0, 5))
    }
    for (const size of SIZES) await writeFile(join(source, `size-${size}`), Buffer.alloc(size, 's'))
    await mkdir(join(source, 'empty folder'))
    await symlink('t'.repeat(120), join(source, 'a link with a long target'))
    await symlink('plain', join(source, 'a link'))
  })

  test.each(['pax', 'posix', 'ustar'])('in the format %s', async (format) => {
    const list = namesBelow(source)
    // What does not fit the older format is left out by tar itself, with a message; but a link's target is cut.
    const leftOut = format === 'ustar' ? `--exclude='*long target'` : ''
    const run = execFileSync('sh', ['-c', `tar --format=${format} ${leftOut} -cf - . 2>/dev/null || true`], {
      cwd: source,
      maxBuffer: 64 * 1024 * 1024,
    })
    const members = read(run, 4096).filter(({ path }) => path !== '.')
    expect(members.map(({ path }) => path)).toContain(`./${SPLIT}`)
    for (const { path, type, content, linkTarget, ...facts } of members) {
      const real = join(source, path)
      if (type === 'file') expect(content, path).toBe(await readFile(fsPath(real), 'latin1'))
      if (type === 'symlink') expect(linkTarget, path).toBe(await readlink(fsPath(real)))
      else {
        const { mode, mtimeMs, uid, gid } = await stat(fsPath(real))
        expect(facts, path).toMatchObject({
          mode: mode & 0o7777,
          mtime: Math.floor(mtimeMs / 1000),
          uid,
          gid,
        })
      }
    }
    if (format !== 'ustar')
      expect(members.map(({ path }) => path.slice(2)).toSorted()).toEqual(list.toSorted())
  })

  test('in the format gnu as far as names are short, and is refused by name where not', () => {
    const short = execFileSync('tar', ['--format=gnu', '-cf', '-', 'plain', 'size-513'], { cwd: source })
    expect(read(short, 100).map(({ path, size }) => [path, size])).toEqual([
      ['plain', 5],
      ['size-513', 513],
    ])
    const long = execFileSync('tar', ['--format=gnu', '-cf', '-', 'n'.repeat(254)], { cwd: source })
    expect(() => read(long, 100)).toThrow(/kind that no PostgreSQL cluster holds/)
  })

  test('also with a large owner id, and with a global header in front', () => {
    const bytes = execFileSync(
      'tar',
      [
        '--format=pax',
        '--owner=:1000660000',
        '--group=:3000000',
        '--pax-option=globexthdr.name=g,comment=x',
        '-cf',
        '-',
        'plain',
      ],
      { cwd: source },
    )
    expect(read(bytes, 512)).toMatchObject([{ path: 'plain', uid: 1_000_660_000, gid: 3_000_000, size: 5 }])
  })
})

test('what is written is read back the same, in pieces of any size', () => {
  const random = randomFrom(20261120)
  const files = NAMES.map((path, index) => {
    const content = String(index % 10).repeat(SIZES[index % SIZES.length]!)
    return { ...member({ path, size: content.length, uid: index * 1_000_000, mode: 0o600 + index }), content }
  })
  const bytes = archive(...files.map(({ content, ...facts }) => [facts, Buffer.from(content)] as const))
  for (let round = 0; round < 20; round++) {
    const members = read(bytes, () => 1 + Math.floor(random() ** 3 * 3000))
    expect(members).toEqual(files)
  }
})

test('a size of more than 8 GiB is read back', () => {
  const seen: TarMember[] = []
  const reader = new TarReader((facts) => void seen.push(facts))
  reader.push(tarHeader(member({ path: 'x', size: 9 * 1024 ** 3 })))
  expect(seen).toEqual([member({ path: 'x', size: 9 * 1024 ** 3 })])
})

test('a member without a sink is passed over', () => {
  const bytes = archive(
    [member({ path: 'a', size: 700 }), Buffer.alloc(700)],
    [member({ path: 'b', size: 2 }), Buffer.from('ok')],
  )
  let content = ''
  const reader = new TarReader(({ path }) =>
    path === 'a' ? undefined : { write: (piece) => (content += piece), end: () => (content += '.') },
  )
  reader.push(bytes)
  reader.finish()
  expect(content).toBe('ok.')
})

test('an empty file has its end told too', () => {
  const ended: string[] = []
  const reader = new TarReader(({ path }) => ({ write: () => expect.fail(), end: () => ended.push(path) }))
  reader.push(archive([member({ path: 'a' })], [member({ path: 'b' })]))
  expect(ended).toEqual(['a', 'b'])
})

describe('is an error', () => {
  const whole = archive(
    [member({ path: 'a', size: 600 }), Buffer.alloc(600, 'a')],
    [member({ path: longPath(256), size: 5 }), Buffer.from('bbbbb')],
    [member({ path: 'c', size: 5 }), Buffer.from('ccccc')],
  )

  test('an archive that ends anywhere before its end mark', () => {
    for (let length = 0; length <= whole.length - TAR_END.length; length += 64) {
      expect(() => read(whole.subarray(0, length), 1000), `${length} bytes`).toThrow()
    }
  })

  test('any header in which a bit is flipped', () => {
    for (let at = 0; at < TAR_BLOCK; at++) {
      for (const bit of [0, 3, 7]) {
        const damaged = Buffer.from(whole)
        damaged[at]! ^= 1 << bit
        let result: unknown
        try {
          result = read(damaged, 4096)
        } catch {
          continue
        }
        // The unused end of the checksum's own field may differ; nothing else may pass.
        expect(at >= 148 && at < 156, `byte ${at}, bit ${bit}`).toBe(true)
        expect(result).toEqual(read(whole, 4096))
      }
    }
  })

  test('a header that became zeros, which would hide all that comes after it', () => {
    for (const at of [0, 2 * TAR_BLOCK + TAR_BLOCK]) {
      const damaged = Buffer.from(whole)
      damaged.fill(0, at, at + TAR_BLOCK)
      expect(() => read(damaged, 777)).toThrow('after the end mark')
    }
  })

  test.each([
    ['b', 'a block device'],
    ['3', 'a character device'],
    ['4', 'a block device'],
    ['6', 'a pipe'],
    ['1', 'a hard link'],
    ['S', 'a sparse file'],
    ['L', 'a GNU long name'],
  ])('a member of the kind %s, %s', (flag) => {
    const header = tarHeader(member({ path: 'dev/sda' }))
    expect(() => read(Buffer.concat([withFlag(header, flag), TAR_END]), 512)).toThrow(
      /dev\/sda.*no PostgreSQL cluster holds/,
    )
  })

  test.each([
    '99 path=x\n',
    '0 path=x\n',
    '-5 path=x\n',
    'path=x\n',
    '12 path-abc\n',
    '11 size=1x\n',
    '13 size=0x10\n',
    '12 size=-9\n',
  ])('an extended header that says %j', (record) => {
    const extended = withFlag(tarHeader(member({ path: 'PaxHeader', size: record.length })), 'x')
    const bytes = archive([extended, Buffer.from(record)], [member({ path: 'a', size: 0 })])
    expect(() => read(bytes, 512)).toThrow(/extended header/)
  })

  test('an extended header of more than a mebibyte, before it is held in memory', () => {
    const extended = withFlag(tarHeader(member({ path: 'PaxHeader', size: 1024 * 1024 + 1 })), 'x')
    expect(() => read(extended, 512)).toThrow('larger than 1 MiB')
  })

  test('a number that is none', () => {
    const header = Buffer.from(tarHeader(member({ path: 'a', size: 8 })))
    header.write('0000000001z\0', 124, 'latin1')
    expect(() => read(resum(header), 512)).toThrow('impossible')
    // GNU's own way for large numbers.
    header.writeUInt8(0x80, 124)
    expect(() => read(resum(header), 512)).toThrow('impossible')
  })
})

test('an empty extended header changes nothing', () => {
  const extended = withFlag(tarHeader(member({ path: 'PaxHeader' })), 'x')
  const bytes = archive([extended], [member({ path: 'a', size: 2 }), Buffer.from('ok')])
  expect(read(bytes, 512)).toMatchObject([{ path: 'a', content: 'ok' }])
})

test('what an extended header says is about the next member only', () => {
  const long = longPath(200)
  const bytes = archive(
    [member({ path: long, size: 1 }), Buffer.from('1')],
    [member({ path: 'b', size: 1 }), Buffer.from('2')],
  )
  expect(read(bytes, 512).map(({ path }) => path)).toEqual([long, 'b'])
})

/** The content as latin1, since comparing long buffers is slow. */
type ReadMember = TarMember & { content: string }

function read(bytes: Buffer, pieceBytes: number | (() => number)): ReadMember[] {
  const members: ReadMember[] = []
  const reader = new TarReader((facts) => {
    const pieces: Buffer[] = []
    const entry = { ...facts, content: '' }
    return {
      write: (piece) => pieces.push(Buffer.from(piece)),
      end: () => {
        entry.content = Buffer.concat(pieces).toString('latin1')
        members.push(entry)
      },
    }
  })
  for (let at = 0; at < bytes.length; ) {
    const end = at + (typeof pieceBytes === 'number' ? pieceBytes : pieceBytes())
    reader.push(bytes.subarray(at, end))
    at = end
  }
  reader.finish()
  return members
}

function member(facts: Partial<TarMember> & { path: string }): TarMember {
  return { type: 'file', size: 0, mode: 0o600, mtime: 1_763_700_000, uid: 0, gid: 0, ...facts }
}

function archive(...members: (readonly [TarMember | Buffer, Buffer?])[]): Buffer {
  const parts = members.flatMap(([head, content = Buffer.alloc(0)]) => [
    Buffer.isBuffer(head) ? head : tarHeader(head),
    content,
    Buffer.alloc(padding(content.length)),
  ])
  return Buffer.concat([...parts, TAR_END])
}

function extract(folder: string, bytes: Buffer): void {
  pipeThrough('tar', ['-xf', '-', '-C', folder, '--no-same-owner', '--preserve-permissions'], bytes)
}

function withFlag(header: Buffer, flag: string): Buffer {
  const changed = Buffer.from(header)
  changed.write(flag, 156, 'latin1')
  return resum(changed)
}

function resum(header: Buffer): Buffer {
  header.fill(0x20, 148, 156)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return header
}

/** A path of so many bytes, of names that a file system takes. */
function longPath(length: number): string {
  let path = 'p'.repeat(length)
  for (let at = 200; at < length - 1; at += 201) path = `${path.slice(0, at)}/${path.slice(at + 1)}`
  return path
}

/** All that `find` shows below a folder, relative to it. */
function namesBelow(folder: string): string[] {
  const output = execFileSync('find', ['.', '-mindepth', '1', '-print0'], { cwd: folder })
  const names: string[] = []
  for (let at = 0; at < output.length; ) {
    const end = output.indexOf(0, at)
    names.push(nameFromBytes(output.subarray(at + 2, end)))
    at = end + 1
  }
  return names
}

test.runIf(has('tar'))('numbers beyond the octal digits are read as GNU tar writes them', async () => {
  const folder = await scratch.folder('large-numbers')
  await writeFile(join(folder, 'large'), '')
  await truncate(join(folder, 'large'), 9 * 1024 ** 3)
  const args = ['--format=gnu', '--owner=x:3000000', '--group=y:4000000', '-C', folder, '-cf', '-', 'large']
  const { stdout } = spawnSync('sh', ['-c', 'tar "$@" 2>/dev/null | head -c 512', 'sh', ...args])
  const seen: TarMember[] = []
  new TarReader((found) => void seen.push(found)).push(stdout)
  expect(seen).toMatchObject([{ path: 'large', size: 9 * 1024 ** 3, uid: 3_000_000, gid: 4_000_000 }])
})
