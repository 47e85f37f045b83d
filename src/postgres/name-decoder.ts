/**
 * What the Encoding Standard calls PostgreSQL's encodings. In those that it does not know, and where PostgreSQL itself does not
 * know what the bytes mean (SQL_ASCII), bytes are read as UTF-8.
 * @see https://www.postgresql.org/docs/current/multibyte.html
 * @see https://encoding.spec.whatwg.org/#names-and-labels
 */
const LABELS: Record<string, string> = {
  EUC_CN: 'gbk',
  EUC_JP: 'euc-jp',
  EUC_KR: 'euc-kr',
  ISO_8859_5: 'iso-8859-5',
  ISO_8859_6: 'iso-8859-6',
  ISO_8859_7: 'iso-8859-7',
  ISO_8859_8: 'iso-8859-8',
  KOI8R: 'koi8-r',
  KOI8U: 'koi8-u',
  LATIN1: 'iso-8859-1',
  LATIN2: 'iso-8859-2',
  LATIN3: 'iso-8859-3',
  LATIN4: 'iso-8859-4',
  LATIN5: 'iso-8859-9',
  LATIN6: 'iso-8859-10',
  LATIN7: 'iso-8859-13',
  LATIN8: 'iso-8859-14',
  LATIN9: 'iso-8859-15',
  LATIN10: 'iso-8859-16',
  WIN866: 'ibm866',
  WIN874: 'windows-874',
  WIN1250: 'windows-1250',
  WIN1251: 'windows-1251',
  WIN1252: 'windows-1252',
  WIN1253: 'windows-1253',
  WIN1254: 'windows-1254',
  WIN1255: 'windows-1255',
  WIN1256: 'windows-1256',
  WIN1257: 'windows-1257',
  WIN1258: 'windows-1258',
}

/** Reads names in a database's encoding, such as an archive's list has them. @param encoding as `pg_encoding_to_char` gives it */
export function decodeNames(bytes: Buffer, encoding: string | undefined): string {
  const label = encoding === undefined ? undefined : LABELS[encoding]
  return label === undefined ? bytes.toString('utf8') : new TextDecoder(label).decode(bytes)
}
