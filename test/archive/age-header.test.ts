import { describe, expect, test } from 'vitest'
import { readSealHeader, SEAL_HEADER_READ_BYTES, Sealer } from '../../src/archive/age.ts'

const BODY = 'A'.repeat(43)
const LINE = 'B'.repeat(64)
const VERSION = 'age-encryption.org/v1\n'
const ONE = `-> X25519 ${BODY}\n${BODY}\n`
const MAC = `--- ${BODY}\n`
const RECIPIENT = 'age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj'

const read = (text: string) => readSealHeader(Buffer.from(text, 'latin1'))

describe('the header of an object', () => {
  test.each([
    ['one recipient', VERSION + ONE + MAC, 1],
    ['several', VERSION + ONE + ONE + ONE + MAC, 3],
    ['a long body', `${VERSION}-> mlkem768x25519 ${'C'.repeat(1494)}\n${LINE}\n${LINE}\n\n${MAC}`, 1],
    ['one without a body', `${VERSION}-> something\n\n${MAC}`, 1],
    ['a stanza without meaning', `${VERSION}${ONE}-> ab!~-grease 1\n${BODY}\n${MAC}`, 1],
  ])('with %s', (_what, text, recipients) => {
    expect(read(text)).toEqual({ headerBytes: text.length, notes: [], recipients })
    expect(read(`${text}\0\xffwhatever follows`)).toMatchObject({ headerBytes: text.length })
    for (let bytes = 0; bytes < text.length; bytes++) expect(read(text.slice(0, bytes))).toBeUndefined()
  })

  test('with notes, which are no recipients; one with a body is somebody else’s', () => {
    const notes = '-> pgrecall/wal 00 ff 16\n\n-> pgrecall/seen\n\n-> pgrecall/wal x\nAAAA\n'
    expect(read(VERSION + notes + ONE + MAC)).toMatchObject({
      recipients: 1,
      notes: [
        { name: 'wal', args: ['00', 'ff', '16'] },
        { name: 'seen', args: [] },
      ],
    })
  })

  test.each([
    ['another version', `age-encryption.org/v2\n${ONE}${MAC}`],
    ['no stanza', VERSION + MAC],
    ['an empty word', `${VERSION}-> X25519  ${BODY}\n${BODY}\n${MAC}`],
    ['a space at the end', `${VERSION}-> X25519 \n${BODY}\n${MAC}`],
    ['no word', `${VERSION}->\n${BODY}\n${MAC}`],
    ['a letter that is not ASCII', `${VERSION}-> X25519 \xe9\n${BODY}\n${MAC}`],
    ['a tabulator', `${VERSION}-> X25519\t${BODY}\n${BODY}\n${MAC}`],
    ['lines that end with CR LF', (VERSION + ONE + MAC).replaceAll('\n', '\r\n')],
    ['a line of the body that is too long', `${VERSION}-> X25519\n${LINE}BBBB\n${MAC}`],
    ['a body whose last line is missing', `${VERSION}-> X25519\n${LINE}\n${MAC}`],
    ['padding', `${VERSION}-> X25519\n${BODY}=\n${MAC}`],
    ['a body of an impossible length', `${VERSION}-> X25519\nAAAAA\n${MAC}`],
    ['bits in a body that mean nothing', `${VERSION}-> X25519\n${'A'.repeat(42)}B\n${MAC}`],
    ['bits in the MAC that mean nothing', `${VERSION}${ONE}--- ${'A'.repeat(42)}B\n`],
    ['a MAC that is too short', `${VERSION}${ONE}--- ${'A'.repeat(42)}\n`],
    ['a MAC that is too long', `${VERSION}${ONE}--- ${'A'.repeat(44)}\n`],
    ['an empty line', `${VERSION}\n${ONE}${MAC}`],
    ['more than a header has', VERSION + ONE.repeat(SEAL_HEADER_READ_BYTES / ONE.length + 1) + MAC],
  ])('is none with %s', (_what, text) => {
    expect(read(text)).toBeUndefined()
  })

  test.each([
    { name: 'wal', args: ['two words'] },
    { name: 'wal', args: [''] },
    { name: 'wal', args: ['a\nb'] },
    { name: 'wal', args: ['é'] },
    { name: '', args: [] },
    { name: 'a b', args: [] },
  ])('takes no note that could not be read again: %j', async (note) => {
    await expect(new Sealer([RECIPIENT]).seal([note])).rejects.toThrow('cannot stand in the header')
  })
})
