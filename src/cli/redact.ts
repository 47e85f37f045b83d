export const CENSOR = '***'

/** Names of values that are secrets under any spelling (PGPASSWORD, secret_access_key) and at any depth. */
const SECRET_KEY = /password$|passphrase$|secret_?access_?key$|^identity$/i

/**
 * Takes passwords out of text: those of connection URIs (postgres://user:***@host), of libpq strings
 * (password=***), and age identities. When in doubt about where a secret ends, it takes more rather than less.
 */
export function redactText(text: string): string {
  return text
    .replace(/\b(postgres(?:ql)?:\/\/[^\s:@/]*:)\S*@/gi, `$1${CENSOR}@`)
    .replace(/\b([a-z][a-z\d+.-]{0,20}:\/\/[^\s:@/]*:)[^\s/]*@/gi, `$1${CENSOR}@`)
    .replace(/(password\s*=\s*)(?:'(?:[^'\\]|\\.)*(?:'|$)|(?:[^\s\\]|\\.)+)/gis, `$1${CENSOR}`)
    .replace(/AGE-SECRET-KEY-[A-Z\d-]+/gi, CENSOR)
}

/** Redacts a finished line: past every serializer and interpolation, whatever made its way in. */
export function redactJson(line: string): string {
  return mapStrings(line, redactText, (key) => SECRET_KEY.test(key))
}

// A string, and the string that is its value when the first one is a key.
const JSON_STRINGS = /("[^"\\]*(?:\\.[^"\\]*)*")(?::("[^"\\]*(?:\\.[^"\\]*)*"))?/g

/**
 * Changes the strings of a JSON text and nothing else. Numbers keep their digits, which parsing the whole would
 * round: system identifiers do not fit a double.
 */
export function mapStrings(
  json: string,
  change: (text: string) => string,
  isSecret: (key: string) => boolean = () => false,
): string {
  const mapped = (token: string) => JSON.stringify(change(JSON.parse(token)))
  return json.replace(JSON_STRINGS, (_, first: string, value: string | undefined) => {
    if (value === undefined) return mapped(first)
    return `${mapped(first)}:${isSecret(JSON.parse(first)) ? `"${CENSOR}"` : mapped(value)}`
  })
}
