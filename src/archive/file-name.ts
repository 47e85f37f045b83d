import { isUtf8 } from 'node:buffer'

/**
 * File names are bytes to the kernel and strings to us. A name that is valid UTF-8 is that string; in any other
 * each byte from 0x80 becomes the lone surrogate U+DC00 + byte (as Python's `surrogateescape` does), so that no
 * name is lost or changed on its way through a backup.
 */
export function nameFromBytes(bytes: Buffer): string {
  if (isUtf8(bytes)) return bytes.toString('utf8')
  let name = ''
  for (const byte of bytes) name += String.fromCharCode(byte < 0x80 ? byte : 0xdc00 + byte)
  return name
}

/** The bytes of a name made by `nameFromBytes`, or of a path that such names were joined to. */
export function nameToBytes(name: string): Buffer {
  if (name.isWellFormed()) return Buffer.from(name, 'utf8')
  // Only the lone surrogates stand for single bytes: the folder above may well be called "Größe".
  return Buffer.concat(
    Array.from(name, (character) => {
      const code = character.codePointAt(0)!
      return code >= 0xdc80 && code <= 0xdcff ? Buffer.of(code - 0xdc00) : Buffer.from(character, 'utf8')
    }),
  )
}

/** What to hand to `node:fs`: the string itself where that says the same, else its bytes. */
export function fsPath(name: string): string | Buffer {
  return name.isWellFormed() ? name : nameToBytes(name)
}
