import type { ConnectionOptions } from './server.ts'

/**
 * The same server, and another database of it.
 * @param database its very name, whatever characters it has
 */
export function inDatabase(connection: ConnectionOptions, database: string): ConnectionOptions {
  const { uri } = connection
  if (uri === undefined) return { ...connection, database }
  const [, server = '', query = ''] = /^(\w+:\/\/[^/?#]*)(?:\/[^?#]*)?(?:\?([^#]*))?/.exec(uri) ?? []
  const settings = query.split('&').filter((setting) => setting !== '' && !setting.startsWith('dbname='))
  const rest = settings.length > 0 ? `?${settings.join('&')}` : ''
  return { ...connection, uri: `${server}/${encodeURIComponent(database)}${rest}` }
}
