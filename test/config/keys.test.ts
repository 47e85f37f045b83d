import { spawnSync } from 'node:child_process'
import { chmod, readdir, readFile, stat, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { newIdentity, Opener, Sealer } from '../../src/archive/age.ts'
import { sealWithPassphrase } from '../../src/archive/age-keys.ts'
import type { CommandContext } from '../../src/commands/context.ts'
import { run as newKey } from '../../src/commands/key-new.ts'
import { loadIdentities, recipientsOf } from '../../src/config/keys.ts'
import { PgrecallError } from '../../src/errors.ts'
import { Events } from '../../src/events.ts'
import { HAS_AGE } from '../archive/age-program.ts'
import { pipeThrough } from '../archive/programs.ts'
import { Scratch } from '../lab/scratch.ts'

const NOTHING = { recipients: [], recipientsFile: [], identityFile: [] }
const PASSPHRASE = 'correct horse battery staple'
/** `script`, of util-linux, gives age the terminal from which alone it takes a passphrase. */
const HAS_AGE_AND_SCRIPT = HAS_AGE && (Boolean(process.env.CI) || !spawnSync('script', ['--version']).error)

let scratch: Scratch
let key: Awaited<ReturnType<typeof newIdentity>>
let other: typeof key
let warnings: string[]
/** An identity file with the key, as `age --passphrase --armor` makes it. */
let encrypted: string
beforeAll(async () => {
  scratch = await Scratch.create('keys')
  key = await newIdentity()
  other = await newIdentity()
  encrypted = await sealWithPassphrase(`# mine\n${key.identity}\n`, PASSPHRASE)
})
beforeEach(() => {
  warnings = []
})
afterAll(() => scratch[Symbol.asyncDispose]())

describe('recipients', () => {
  test('are those of the configuration, then those of its files, each once', async () => {
    const file = await scratch.file('team.txt', `# the team\n\n${other.recipient}\r\n  ${key.recipient}\n`)
    expect(recipientsOf({ ...NOTHING, recipients: [key.recipient], recipientsFile: [file] })).toEqual([
      key.recipient,
      other.recipient,
    ])
  })

  test('must be named, also where there is an identity', async () => {
    const identityFile = [await scratch.file('own.txt', key.identity)]
    const error = failureOf(() => recipientsOf({ ...NOTHING, identityFile }))
    expect(error).toMatchObject({ kind: 'config', hint: expect.stringContaining('"recipients"') })
  })

  test('that are none are refused by the line on which they stand; it is not shown', async () => {
    const file = await scratch.file('wrong.txt', `${key.recipient}\n${key.identity}\n`)
    const error = failureOf(() => recipientsOf({ ...NOTHING, recipientsFile: [file] }))
    expect(error).toMatchObject({ kind: 'config', message: `${file}:2: this line is no public key of age` })
  })

  test('in a file that is not there', () => {
    const file = join(scratch.path, 'nowhere.txt')
    expect(failureOf(() => recipientsOf({ ...NOTHING, recipientsFile: [file] }))).toMatchObject({
      kind: 'config',
      message: expect.stringContaining(`cannot read the recipients file ${file}: ENOENT`),
    })
  })
})

describe('identities', () => {
  test('come from every file, in its order, each once', async () => {
    const hybrid = await newIdentity({ postQuantum: true })
    const first = await scratch.file(
      'first.txt',
      `# created: today\r\n${key.identity}\r\n\n${hybrid.identity}\n`,
    )
    const second = await scratch.file('second.txt', `${other.identity}\n${key.identity}`)
    expect(await load({ identityFile: [first, second] })).toEqual([
      key.identity,
      hybrid.identity,
      other.identity,
    ])
    expect(warnings).toEqual([])
  })

  test.each([
    ['armored', (text: string) => text],
    ['armored, with what an editor adds', (text: string) => `\r\n${text.replaceAll('\n', '\r\n')}\r\n`],
    ['binary', (text: string) => Buffer.from(text.split('\n').slice(1, -2).join(''), 'base64')],
  ])('in a file that is encrypted with a passphrase, %s', async (_form, change) => {
    const file = await scratch.file('encrypted.age', change(encrypted))
    const passphraseFile = await scratch.file('passphrase', `${PASSPHRASE}\r\nnot this line\n`)
    expect(await load({ identityFile: [file], passphraseFile })).toEqual([key.identity])
  })

  test('in a file whose passphrase is another one, or not known', async () => {
    const file = await scratch.file('locked.age', encrypted)
    const passphraseFile = await scratch.file('wrong-passphrase', 'something else\n')
    expect(await loadFailure({ identityFile: [file], passphraseFile })).toMatchObject({
      message: `the passphrase in ${passphraseFile} does not open the identity file ${file}`,
    })
    expect(await loadFailure({ identityFile: [file] })).toMatchObject({
      message: `the identity file ${file} is encrypted with a passphrase`,
      hint: expect.stringContaining('passphraseFile'),
    })
  })

  test('that this host does not have are one sentence', async () => {
    expect(await loadFailure({})).toMatchObject({
      message: 'this host has no secret key for what is encrypted in the repository',
      hint: expect.stringContaining('identityFile'),
    })
  })

  test.each([
    ['empty', '', 'there is no secret key in the identity file FILE'],
    ['with comments only', '# AGE-SECRET-KEY-1\n', 'there is no secret key in the identity file FILE'],
    ['of something else', 'hello\n', 'FILE:1: this line is no secret key that pgrecall can use'],
    [
      'of a plugin',
      '# a token\nAGE-PLUGIN-YUBIKEY-1Q\n',
      'FILE:2: this line is no secret key that pgrecall can use',
    ],
    ['with a letter that is wrong', 'MISTYPED', 'FILE:1: this line is no secret key that pgrecall can use'],
    [
      'that is damaged',
      '-----BEGIN AGE ENCRYPTED FILE-----\nAAAA\n',
      'the identity file FILE is damaged: invalid footer',
    ],
  ])('in a file %s', async (_what, text, sentence) => {
    const mistyped = key.identity.replace(/.$/, (letter) => (letter === 'Q' ? 'P' : 'Q'))
    const file = await scratch.file('bad.txt', text === 'MISTYPED' ? mistyped : text)
    const passphraseFile = await scratch.file('passphrase', PASSPHRASE)
    const error = await loadFailure({ identityFile: [file], passphraseFile })
    expect(error).toMatchObject({ kind: 'key', message: sentence.replace('FILE', file) })
  })

  test('in a file that cannot be read', async () => {
    const file = join(scratch.path, 'missing.txt')
    expect(await loadFailure({ identityFile: [file] })).toMatchObject({
      message: expect.stringContaining(`cannot read the identity file ${file}: ENOENT`),
    })
    const locked = await scratch.file('open.age', encrypted)
    expect(await loadFailure({ identityFile: [locked], passphraseFile: file })).toMatchObject({
      message: expect.stringContaining(`cannot read the passphrase file ${file}: ENOENT`),
    })
    const empty = await scratch.file('empty', '\nsecond line\n')
    expect(await loadFailure({ identityFile: [locked], passphraseFile: empty })).toMatchObject({
      message: `there is no passphrase on the first line of ${empty}`,
    })
  })

  test('that others can read are a warning; an encrypted file is not, but its passphrase is', async () => {
    const plain = await scratch.file('shared.txt', key.identity)
    await chmod(plain, 0o644)
    await load({ identityFile: [plain] })
    expect(warnings).toEqual([expect.stringContaining(`chmod 600 ${plain}`)])

    warnings = []
    const file = await scratch.file('shared.age', encrypted)
    const passphraseFile = await scratch.file('shared-passphrase', PASSPHRASE)
    await chmod(file, 0o644)
    await chmod(passphraseFile, 0o604)
    await load({ identityFile: [file], passphraseFile })
    expect(warnings).toEqual([expect.stringContaining(`chmod 600 ${passphraseFile}`)])
  })
})

describe('key new', () => {
  test('writes a file that only its owner reads, and prints no secret', async () => {
    const file = join(await scratch.folder('new'), 'identity.txt')
    const { text, json } = await make({ output: 'new/identity.txt' })
    const written = await readFile(file, 'utf8')
    const [, recipient, identity] =
      /^# created: 2026-11-20T17:29:00Z\n# public key: (age1\S+)\n(AGE-SECRET-KEY-1\S+)\n$/.exec(written)!
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    expect(json).toEqual({ identityFile: file, recipient, passphraseFile: null })
    expect(text).toContain(`recipients: [${recipient}]`)
    expect(text + JSON.stringify(json)).not.toContain(identity)
    const seal = await new Sealer(recipientsOf({ ...NOTHING, recipients: [recipient!] })).seal()
    const object = Buffer.concat([seal.header, seal.encryptWhole([Buffer.from('x')])])
    const opener = new Opener(() => load({ identityFile: [file] }))
    expect((await opener.openWhole(object)).toString()).toBe('x')
    expect(await readdir(join(scratch.path, 'new'))).toEqual(['identity.txt'])
  })

  test('never overwrites, not even an empty file or a link to nowhere', async () => {
    const file = await scratch.file('there.txt', '')
    const error = await failureOfNew({ output: file })
    expect(error).toMatchObject({
      kind: 'refused',
      message: `${file} exists already, and a key is never overwritten`,
    })
    expect(await readFile(file, 'utf8')).toBe('')
    const link = join(scratch.path, 'link.txt')
    await symlink(join(scratch.path, 'nowhere'), link)
    expect(await failureOfNew({ output: link })).toMatchObject({ kind: 'refused' })
  })

  test('says what is wrong before anything is written', async () => {
    const folder = await scratch.folder('nothing')
    expect(await failureOfNew({})).toMatchObject({ kind: 'usage' })
    expect(await failureOfNew({ output: join(folder, 'below/identity.txt') })).toMatchObject({
      kind: 'failed',
    })
    const passphraseFile = join(folder, 'missing')
    expect(await failureOfNew({ output: join(folder, 'a'), passphraseFile })).toMatchObject({ kind: 'key' })
    expect(await readdir(folder)).toEqual([])
  })

  test('encrypts the file with a passphrase, and makes post-quantum keys', async () => {
    const passphraseFile = await scratch.file('own-passphrase', `${PASSPHRASE}\n`)
    const output = join(scratch.path, 'protected.age')
    const { text, json } = await make({ output, passphraseFile, postQuantum: true })
    expect(await readFile(output, 'utf8')).toMatch(/^-----BEGIN AGE ENCRYPTED FILE-----\n/)
    expect(text).toContain(`passphraseFile: ${passphraseFile}`)
    expect(json).toMatchObject({ recipient: expect.stringMatching(/^age1pq1/), passphraseFile })
    expect(await load({ identityFile: [output], passphraseFile })).toEqual([
      expect.stringMatching(/^AGE-SECRET-KEY-PQ-1/),
    ])
  })

  test.runIf(HAS_AGE_AND_SCRIPT)('is read by age-keygen, and by age with the passphrase', async () => {
    const plain = join(scratch.path, 'for-age.txt')
    const { json } = await make({ output: plain })
    const { recipient } = json as { recipient: string }
    expect(pipeThrough('age-keygen', ['-y', plain], Buffer.alloc(0)).toString()).toBe(`${recipient}\n`)

    const passphraseFile = await scratch.file('age-passphrase', PASSPHRASE)
    const output = join(scratch.path, 'for-age.age')
    await make({ output, passphraseFile })
    const opened = join(scratch.path, 'opened.txt')
    ageAtTerminal(['--decrypt', '--output', opened, output])
    expect(await readFile(opened, 'utf8')).toMatch(
      /^# created: .*\n# public key: age1.*\nAGE-SECRET-KEY-1.*\n$/,
    )

    const theirs = join(scratch.path, 'by-age.age')
    ageAtTerminal(['--passphrase', '--output', theirs, plain])
    expect(await load({ identityFile: [theirs], passphraseFile })).toEqual(
      await load({ identityFile: [plain] }),
    )
  })
})

const load = (encryption: Partial<Parameters<typeof loadIdentities>[0]>) =>
  loadIdentities({ ...NOTHING, ...encryption }, (text) => warnings.push(text))

async function loadFailure(encryption: Parameters<typeof load>[0]): Promise<PgrecallError> {
  const error = await load(encryption).catch((reason) => reason)
  expect(error).toBeInstanceOf(PgrecallError)
  expect(error.kind).toBe('key')
  expect(`${error.message} ${error.hint}`).not.toMatch(/AGE-SECRET-KEY-(?:PQ-)?1[A-Z]/)
  return error
}

function failureOf(action: () => unknown): PgrecallError {
  try {
    action()
  } catch (error) {
    expect(JSON.stringify(error)).not.toContain('AGE-SECRET-KEY-')
    return error as PgrecallError
  }
  throw new Error('nothing failed')
}

const make = (options: Record<string, unknown>) =>
  newKey({ args: [], options }, {
    cwd: scratch.path,
    now: () => new Date('2026-11-20T17:29:00.123Z'),
    events: new Events(),
  } as CommandContext)

const failureOfNew = (options: Record<string, unknown>) =>
  make(options).then(
    () => undefined,
    (error) => error,
  )

/** Answers the questions for the passphrase, of which there is a second one to be sure. */
function ageAtTerminal(args: string[]): void {
  const command = ['age', ...args].join(' ')
  pipeThrough('script', ['-qec', command, '/dev/null'], Buffer.from(`${PASSPHRASE}\n${PASSPHRASE}\n`))
}
