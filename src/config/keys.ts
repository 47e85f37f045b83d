import { readFileSync, type Stats } from 'node:fs'
import { open } from 'node:fs/promises'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { RepositoryConfig } from './schema.ts'

type Encryption = NonNullable<RepositoryConfig['encryption']>

/**
 * The public keys that a repository's objects are encrypted to: those of the configuration, then those of its files.
 * They are always named, also on a host with an identity file: a host that reads needs no secret key to know them, and
 * one that writes must never guess.
 * @throws PgrecallError `config` when there is none, or a file cannot be read
 */
export function recipientsOf(encryption: Encryption): string[] {
  const recipients = new Set([...encryption.recipients, ...encryption.recipientsFile.flatMap(readRecipients)])
  if (recipients.size > 0) return [...recipients]
  throw new PgrecallError('config', 'the encryption of a repository has no public key', {
    hint: 'name one under "recipients"; an identity file has it in a comment, and "pgrecall key new" makes a pair',
  })
}

function readRecipients(file: string): string[] {
  return meaningfulLines(readRecipientsFile(file)).map(({ line, number }) => {
    if (line.startsWith('age1')) return line
    // Not shown: it may be a secret key in the wrong file.
    throw new PgrecallError('config', `${file}:${number}: this line is no public key of age`, {
      hint: 'the file has one public key a line, age1..., and comments that begin with #',
    })
  })
}

function readRecipientsFile(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new PgrecallError('config', `cannot read the recipients file ${file}: ${reasonOf(error)}`, {
      hint: 'correct recipientsFile, and let the user who runs pgrecall read it',
      cause: error,
    })
  }
}

/**
 * The secret keys of a repository, from files as `age-keygen` or `pgrecall key new` write them.
 * @param warn is told about a secret that others can read
 * @throws PgrecallError `key` when there is none here, or a file does not give it
 */
export async function loadIdentities(
  encryption: Encryption,
  warn: (text: string) => void,
): Promise<string[]> {
  if (encryption.identityFile.length === 0) {
    throw new PgrecallError('key', 'this host has no secret key for what is encrypted in the repository', {
      hint: "name the file with the secret key as identityFile of the repository's encryption",
    })
  }
  const found: string[] = []
  for (const file of encryption.identityFile) {
    found.push(...(await readIdentities(file, encryption.passphraseFile, warn)))
  }
  return [...new Set(found)]
}

async function readIdentities(
  file: string,
  passphraseFile: string | undefined,
  warn: (text: string) => void,
): Promise<string[]> {
  const { isAgeFile, isIdentity } = await import('../archive/age-keys.ts')
  const { content, warning } = await readSecretFile('identity file', file)
  const isEncrypted = isAgeFile(content)
  if (warning !== undefined && !isEncrypted) warn(warning)
  const text = isEncrypted
    ? await decryptIdentities(file, content, passphraseFile, warn)
    : content.toString('utf8')
  const lines = meaningfulLines(text)
  const wrong = lines.find(({ line }) => !isIdentity(line))
  if (wrong) {
    throw new PgrecallError(
      'key',
      `${file}:${wrong.number}: this line is no secret key that pgrecall can use`,
      {
        hint: 'the file has one secret key a line, AGE-SECRET-KEY-..., and comments that begin with #',
      },
    )
  }
  if (lines.length > 0) return lines.map(({ line }) => line)
  throw new PgrecallError('key', `there is no secret key in the identity file ${file}`, {
    hint: 'correct identityFile, or put back the file from where a copy of it is kept',
  })
}

async function decryptIdentities(
  file: string,
  content: Buffer,
  passphraseFile: string | undefined,
  warn: (text: string) => void,
): Promise<string> {
  if (passphraseFile === undefined) {
    throw new PgrecallError('key', `the identity file ${file} is encrypted with a passphrase`, {
      hint: 'name a file that holds the passphrase as passphraseFile, beside identityFile',
    })
  }
  const { openWithPassphrase } = await import('../archive/age-keys.ts')
  const text = await openWithPassphrase(content, await readPassphrase(passphraseFile, warn)).catch(
    (error) => {
      throw new PgrecallError('key', `the identity file ${file} is damaged: ${reasonOf(error)}`, {
        hint: 'put it back from where a copy of it is kept',
        cause: error,
      })
    },
  )
  if (text !== undefined) return text
  throw new PgrecallError(
    'key',
    `the passphrase in ${passphraseFile} does not open the identity file ${file}`,
    {
      hint: `try it by hand: age --decrypt ${file}`,
    },
  )
}

/**
 * The first line of a file.
 * @param warn is told when others can read it
 * @throws PgrecallError `key` when it cannot be read or that line is empty
 */
export async function readPassphrase(file: string, warn: (text: string) => void): Promise<string> {
  const { content, warning } = await readSecretFile('passphrase file', file)
  if (warning !== undefined) warn(warning)
  const passphrase = content.toString('utf8').split(/\r?\n/, 1)[0]!
  if (passphrase !== '') return passphrase
  throw new PgrecallError('key', `there is no passphrase on the first line of ${file}`, {
    hint: 'write it there, and nothing else on that line',
  })
}

async function readSecretFile(kind: string, file: string): Promise<{ content: Buffer; warning?: string }> {
  try {
    await using handle = await open(file)
    const isOpen = isOpenToOthers(await handle.stat())
    const content = await handle.readFile()
    return isOpen
      ? { content, warning: `${file} holds a secret and can be read by others; run: chmod 600 ${file}` }
      : { content }
  } catch (error) {
    throw new PgrecallError('key', `cannot read the ${kind} ${file}: ${reasonOf(error)}`, {
      hint: 'correct its name in the configuration, and let the user who runs pgrecall, usually postgres, read it',
      cause: error,
    })
  }
}

/**
 * The rule that PostgreSQL has for its own secret key: root may let a group read it.
 * @see https://www.postgresql.org/docs/current/ssl-tcp.html
 */
export function isOpenToOthers({ mode, uid }: Pick<Stats, 'mode' | 'uid'>): boolean {
  return (mode & (uid === 0 ? 0o037 : 0o077)) !== 0
}

/** The lines that are neither empty nor comments, with their numbers, from 1 on. */
function meaningfulLines(text: string): { line: string; number: number }[] {
  return text
    .split('\n')
    .map((line, index) => ({ line: line.trim(), number: index + 1 }))
    .filter(({ line }) => line !== '' && !line.startsWith('#'))
}
