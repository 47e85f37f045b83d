import { createServer } from 'node:net'

/** Server settings by name, as in `postgresql.conf`. */
export type Settings = Record<string, string | number | boolean>

/** A small server that starts fast and survives its own kill, but not the machine's. */
export const FAST_SETTINGS: Settings = {
  fsync: false,
  listen_addresses: '',
  wal_level: 'replica',
  max_wal_senders: 10,
  max_connections: 50,
  shared_buffers: '32MB',
  // Shared memory in files of the data directory: a killed server leaves nothing in /dev/shm, and containers
  // with their 64 MB of it are no trouble.
  dynamic_shared_memory_type: 'mmap',
  logging_collector: false,
  log_destination: 'stderr',
  log_line_prefix: '%m [%p] ',
  jit: false,
}

/** The lines for `postgresql.conf`, where the last of several settings of one name wins. */
export function asConfigurationLines(settings: Settings): string {
  return Object.entries(settings)
    .map(([name, value]) => `${name} = '${asText(value).replaceAll('\\', '\\\\').replaceAll("'", "''")}'\n`)
    .join('')
}

/** The same as options of `postgres`, which win over every file. */
export function asCommandLine(settings: Settings): string[] {
  return Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${asText(value)}`])
}

/** A port that nobody listens on. Only a name for the socket, unless `listen_addresses` opens it. */
export async function freePort(): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  const server = createServer()
  server.once('error', reject)
  server.listen(0, '127.0.0.1', () => {
    const address = server.address()
    server.close(() => resolve(typeof address === 'object' && address ? address.port : 0))
  })
  return promise
}

function asText(value: string | number | boolean): string {
  return typeof value === 'boolean' ? (value ? 'on' : 'off') : String(value)
}
