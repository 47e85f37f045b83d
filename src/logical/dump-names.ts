/** A name that is good on every file system and in every store, and that a person recognises. */
const PLAIN = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$/

/** Names that a logical backup has for other things. */
const TAKEN = /^(?:globals|contents|cluster|backup|restore|fingerprints)$/i

/**
 * What the dumps of databases are called, without an ending: the database's own name where that is good for a file, and
 * differs from all others by more than its case; otherwise its oid. Pure.
 */
export function dumpNames(databases: readonly { oid: string; name: string }[]): Map<string, string> {
  const times = new Map<string, number>()
  for (const { name } of databases) times.set(name.toLowerCase(), (times.get(name.toLowerCase()) ?? 0) + 1)
  return new Map(
    databases.map(({ oid, name }) => {
      const isGood =
        PLAIN.test(name) && !TAKEN.test(name) && !/^oid-/.test(name) && times.get(name.toLowerCase()) === 1
      return [oid, isGood ? name : nameByOid(oid)]
    }),
  )
}

/** What no other dump of the same backup is called. */
export const nameByOid = (oid: string) => `oid-${oid}`
