import type { KnownNames } from './archive-list.ts'
import type { Server } from './server.ts'

/**
 * What has to be known of a database to read an archive's list of it: names that have spaces, or line breaks, which are spaces
 * there; and the encoding that they are in.
 */
export async function namesWithSpaces(server: Server): Promise<Required<KnownNames>> {
  return server.one<Required<KnownNames>>(
    String.raw`SELECT pg_encoding_to_char(encoding) AS encoding,
            ARRAY(SELECT regexp_replace(nspname::text, '[\r\n]', ' ', 'g') FROM pg_namespace WHERE nspname ~ '\s') AS schemas,
            ARRAY(SELECT regexp_replace(rolname::text, '[\r\n]', ' ', 'g') FROM pg_roles WHERE rolname ~ '\s') AS owners
       FROM pg_database WHERE datname = current_database()`,
  )
}
