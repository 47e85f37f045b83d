import {
  armor,
  Decrypter,
  Encrypter,
  generateHybridIdentity,
  generateX25519Identity,
  type Identity,
  identityToRecipient,
  Stanza,
} from 'age-encryption'
import { PgrecallError } from '../errors.ts'
import { hasMacOf, noteWords, SEAL_HEADER_READ_BYTES, type SealNote } from './age-header.ts'

/**
 * What is done with keys, by the package `age-encryption`. Loading that takes about as long as Node needs to
 * start, so this file is imported only when something is encrypted or decrypted.
 */
const EMPTY = new Uint8Array(0)
/** The payload of an empty file: a nonce and a tag. */
const EMPTY_PAYLOAD_BYTES = 16 + 16

/**
 * Makes the header that gives a file key to recipients.
 * @throws PgrecallError `config` when one is no public key, when there is none, or when they are too many
 */
export async function makeSealHeader(
  fileKey: Buffer,
  recipients: readonly string[],
  notes: readonly SealNote[],
): Promise<Buffer> {
  if (recipients.length === 0) {
    throw new PgrecallError('config', 'there is no public key to encrypt to', {
      hint: "name one under recipients of the repository's encryption",
    })
  }
  const stanzas = notes.map((note) => new Stanza(noteWords(note), EMPTY))
  const encrypter = new Encrypter()
  // It is asked first, and replaces the key that was drawn by ours before the others wrap it.
  encrypter.addRecipient({
    wrapFileKey: (drawn) => {
      drawn.set(fileKey)
      return stanzas
    },
  })
  for (const recipient of recipients) addRecipient(encrypter, recipient)
  const emptyFile = await encrypter.encrypt(EMPTY)
  const header = Buffer.from(emptyFile.buffer, emptyFile.byteOffset, emptyFile.length - EMPTY_PAYLOAD_BYTES)
  if (!hasMacOf(header, fileKey)) throw new Error('age-encryption made a header for another file key')
  if (header.length > SEAL_HEADER_READ_BYTES) {
    throw new PgrecallError(
      'config',
      `${recipients.length} public keys do not fit into the header of an object`,
      {
        hint: 'encrypt to fewer public keys',
      },
    )
  }
  return header
}

function addRecipient(encrypter: Encrypter, recipient: string): void {
  try {
    encrypter.addRecipient(recipient)
  } catch (error) {
    const shown = recipient.length > 80 ? `${recipient.slice(0, 77)}...` : recipient
    throw new PgrecallError('config', `"${shown}" is no public key of age, perhaps mistyped`, {
      hint: 'copy it once more, from the comment in the identity file or from "age-keygen -y"',
      cause: error,
    })
  }
}

/**
 * Takes the file key out of a header.
 * @returns undefined when the header is for none of the identities
 * @throws Error when the header is damaged
 */
export type FileKeyReader = (header: Buffer) => Promise<Buffer | undefined>

const NO_IDENTITY_FITS = new Error('no identity fits')
/** It is added, and so asked, last: when none of the others could do it. */
const LAST_IDENTITY: Identity = {
  unwrapFileKey: () => {
    throw NO_IDENTITY_FITS
  },
}

/** @throws PgrecallError `key` when one of them is no identity; it is not shown */
export function fileKeyReader(identities: readonly string[]): FileKeyReader {
  if (!identities.every(isIdentity)) {
    throw new PgrecallError('key', 'what should be a secret key of age is none, perhaps mistyped', {
      hint: 'copy it once more; it is one line, AGE-SECRET-KEY-1... or AGE-SECRET-KEY-PQ-1...',
    })
  }
  const decrypter = new Decrypter()
  for (const identity of [...identities, LAST_IDENTITY]) decrypter.addIdentity(identity)
  return (header) => unlessNoneFits(async () => Buffer.from(await decrypter.decryptHeader(header)))
}

async function unlessNoneFits<T>(decrypt: () => Promise<T>): Promise<T | undefined> {
  try {
    return await decrypt()
  } catch (error) {
    if (error === NO_IDENTITY_FITS) return undefined
    throw error
  }
}

/** Whether a line is a secret key that can be used here. */
export function isIdentity(line: string): boolean {
  try {
    new Decrypter().addIdentity(line)
    return true
  } catch {
    return false
  }
}

export async function drawIdentity(postQuantum: boolean): Promise<{ identity: string; recipient: string }> {
  const identity = await (postQuantum ? generateHybridIdentity() : generateX25519Identity())
  return { identity, recipient: await identityToRecipient(identity) }
}

/** Encrypts a text as `age --passphrase --armor` does. */
export async function sealWithPassphrase(text: string, passphrase: string): Promise<string> {
  const encrypter = new Encrypter()
  encrypter.setPassphrase(passphrase)
  return armor.encode(await encrypter.encrypt(text))
}

/** Whether a file is one of age, armored or not. */
export function isAgeFile(file: Buffer): boolean {
  return /^(?:age-encryption\.org\/|\s*-----BEGIN AGE ENCRYPTED FILE-----)/.test(
    file.toString('latin1', 0, 1024),
  )
}

/**
 * Decrypts what `age --passphrase` made, armored or not.
 * @returns undefined when the passphrase is not that of the file
 * @throws Error when the file is damaged
 */
export function openWithPassphrase(file: Buffer, passphrase: string): Promise<string | undefined> {
  const decrypter = new Decrypter()
  decrypter.addPassphrase(passphrase)
  decrypter.addIdentity(LAST_IDENTITY)
  const isArmored = !file.toString('latin1', 0, 4).startsWith('age-')
  return unlessNoneFits(() =>
    decrypter.decrypt(isArmored ? armor.decode(file.toString('latin1')) : file, 'text'),
  )
}
