/** Whether scripts have a setting that the server does not know: the programs of 17 and later give it out for all servers. */
export const saysTooMuch = (programVersion: number, serverVersion: number) =>
  programVersion >= 17 && serverVersion < 17

/**
 * A script for a server older than 17: without the setting that begins each database's part of it, and whose value is that
 * server's only one. Rows stay as they are.
 * @see src/bin/pg_dump/pg_backup_archiver.c: _doSetFixedOutputState
 */
export async function* withoutLaterSettings(script: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let rest = ''
  let inRows = false
  const isKept = (line: string) => {
    if (inRows) inRows = line !== '\\.'
    else if (line.endsWith(' FROM stdin;')) inRows = true
    return inRows || line !== 'SET transaction_timeout = 0;'
  }
  for await (const piece of script) {
    // Bytes stay what they are in either direction.
    const text = piece.toString('latin1')
    const end = text.lastIndexOf('\n')
    if (end >= 0) {
      const lines = (rest + text.slice(0, end)).split('\n').filter(isKept)
      yield Buffer.from(lines.map((line) => `${line}\n`).join(''), 'latin1')
    }
    rest = end < 0 ? rest + text : text.slice(end + 1)
  }
  if (rest !== '') yield Buffer.from(rest, 'latin1')
}
