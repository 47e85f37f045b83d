import { createHmac, hkdfSync } from 'node:crypto'

/** A fact about an object that is readable without any key: a stanza of the age header, `-> pgrecall/<name> <args>`. */
export interface SealNote {
  name: string
  args: readonly string[]
}

export interface SealHeader {
  headerBytes: number
  notes: SealNote[]
  /** How many public keys the object is encrypted to. */
  recipients: number
}

/** As much of an object as surely holds its header: about 160 usual recipients, or 10 post-quantum ones. */
export const SEAL_HEADER_READ_BYTES = 16 * 1024

const VERSION_LINE = 'age-encryption.org/v1\n'
const STANZA = /-> ([!-~]+(?: [!-~]+)*)\n((?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{0,63})\n/y
const END = /--- ([A-Za-z0-9+/]{43})\n/y
/** What stands behind the bytes that the MAC covers: a space, 32 bytes in base64, the end of the line. */
const MAC_BYTES = 1 + 43 + 1
const NOTE_PREFIX = 'pgrecall/'

/**
 * Reads the header at the start of an object, as strictly as the specification asks. Needs no key, and so cannot check
 * the MAC: a note is what the writer said, unless somebody who may write to the repository has changed it.
 * @param start the first bytes; no more than SEAL_HEADER_READ_BYTES of them are looked at
 * @returns undefined when there is no whole header
 * @see https://c2sp.org/age#header-format
 */
export function readSealHeader(start: Buffer): SealHeader | undefined {
  const text = start.toString('latin1', 0, Math.min(start.length, SEAL_HEADER_READ_BYTES))
  if (!text.startsWith(VERSION_LINE)) return undefined
  const stanzas: { words: string[]; body: string }[] = []
  let at = VERSION_LINE.length
  for (let found = matchAt(STANZA, text, at); found; found = matchAt(STANZA, text, at)) {
    const body = found[2]!.replaceAll('\n', '')
    if (!isCanonicalBase64(body)) return undefined
    stanzas.push({ words: found[1]!.split(' '), body })
    at += found[0].length
  }
  const end = matchAt(END, text, at)
  if (!end || !isCanonicalBase64(end[1]!) || stanzas.length === 0) return undefined
  const types = stanzas.map(({ words }) => words[0]!)
  return {
    headerBytes: at + end[0].length,
    notes: stanzas.flatMap(({ words: [type, ...args], body }) =>
      type!.startsWith(NOTE_PREFIX) && body === '' ? [{ name: type!.slice(NOTE_PREFIX.length), args }] : [],
    ),
    recipients: types.filter((type) => !type.startsWith(NOTE_PREFIX) && !isGrease(type)).length,
  }
}

/** Whether the first bytes, be they ever so few, can be those of an age file. */
export function canBeSealed(start: Buffer): boolean {
  return VERSION_LINE.startsWith(start.toString('latin1', 0, Math.min(start.length, VERSION_LINE.length)))
}

/**
 * The words of a note's stanza.
 * @throws Error when one of them could not be told from others in the header
 */
export function noteWords({ name, args }: SealNote): string[] {
  const words = [`${NOTE_PREFIX}${name}`, ...args]
  const wrong = words.find((word) => !/^[!-~]+$/.test(word))
  if (name === '' || wrong !== undefined)
    throw new Error(`"${wrong ?? name}" cannot stand in the header of an object`)
  return words
}

/**
 * Whether a header ends with the MAC that this file key gives.
 * @see https://c2sp.org/age#header-mac
 */
export function hasMacOf(header: Buffer, fileKey: Buffer): boolean {
  const key = new Uint8Array(hkdfSync('sha256', fileKey, '', 'header', 32))
  const mac = createHmac('sha256', key).update(header.subarray(0, -MAC_BYTES)).digest('base64')
  return header.toString('latin1', header.length - MAC_BYTES) === ` ${mac.slice(0, 43)}\n`
}

function matchAt(sticky: RegExp, text: string, at: number): RegExpExecArray | null {
  sticky.lastIndex = at
  return sticky.exec(text)
}

/** Without padding, and with zeros for the bits that say nothing. */
function isCanonicalBase64(text: string): boolean {
  return Buffer.from(text, 'base64').toString('base64').replace(/=+$/, '') === text
}

/** Some programs add stanzas without a meaning, so that nobody forgets to ignore what he does not know. */
function isGrease(type: string): boolean {
  return type.endsWith('-grease')
}
