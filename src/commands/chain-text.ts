import type { BackupRecord } from '../catalog/backup-record.ts'
import { readChain } from '../catalog/chain.ts'
import { renderTable } from '../cli/table.ts'
import { formatBytes, formatCount } from '../cli/units.ts'
import { PgrecallError } from '../errors.ts'
import type { Storage } from '../storage/storage.ts'
import type { CommandContext } from './context.ts'
import { secondsFrom } from './wal-text.ts'

/** A backup with what it builds upon, oldest first, or why that cannot be had. */
export type ShownChain = { links: BackupRecord[] } | { error: PgrecallError }

/** A chain that is broken is shown as such. */
export async function shownChain(storage: Storage, record: BackupRecord): Promise<ShownChain> {
  try {
    return { links: await readChain(storage, record) }
  } catch (error) {
    if (!(error instanceof PgrecallError) || error.kind !== 'damaged') throw error
    return { error }
  }
}

/** What each link adds, and what a restore of the last one reads. */
export function chainFacts(chain: ShownChain) {
  return 'error' in chain ? { error: chain.error.message } : factsOf(chain.links)
}

function factsOf(records: readonly BackupRecord[]) {
  const links = records.map(({ id, type, method, stop, files, increment, dataBytes, storedBytes }) => {
    const changedBlocks = increment?.changedBlocks ?? null
    return { id, type, method, stopTime: stop.time, files, changedBlocks, dataBytes, storedBytes }
  })
  return { links, storedBytes: links.reduce((sum, { storedBytes }) => sum + storedBytes, 0) }
}

/** The same as a table; empty of a full backup. */
export function chainText(chain: ShownChain, view: CommandContext['view']): string {
  if ('error' in chain) return `Its chain is broken: ${chain.error.message}`
  if (chain.links.length === 1) return ''
  const { links, storedBytes } = factsOf(chain.links)
  const { clusterBytes, dataBytes } = chain.links.at(-1)!
  const table = renderTable(
    [
      { title: 'Link', style: 'bold', whole: true },
      { title: 'Type', whole: true, leaveOut: 0 },
      { title: 'Method', whole: true, leaveOut: 1 },
      { title: 'Ends at', whole: true, leaveOut: 2 },
      { title: 'Files', align: 'right' },
      { title: 'Changed', align: 'right' },
      { title: 'Adds', align: 'right' },
      { title: 'Stored', align: 'right' },
    ],
    links.map((link) => [
      link.id,
      link.type,
      link.method,
      secondsFrom(link.stopTime),
      String(link.files),
      link.changedBlocks === null ? '-' : String(link.changedBlocks),
      formatBytes(link.dataBytes),
      formatBytes(link.storedBytes),
    ]),
    view,
  )
  const total = `A restore reads up to ${formatBytes(storedBytes)} of these ${links.length} backups, and writes ${formatBytes(clusterBytes ?? dataBytes)}; what changed is counted in blocks.`
  return `${table}\n${total}`
}

const SOURCES: Record<NonNullable<BackupRecord['increment']>['source'], string> = {
  'wal-summaries': "the server's WAL summaries",
  'page-lsns': 'the LSN of each page',
  server: 'the server, which sent them',
}

/** Upon what a backup builds, what has changed since, and how that is known; or from what it was put together. */
export function originRows({ parent, increment, consolidatedFrom }: BackupRecord): [string, string][] {
  const rows: [string, string][] = []
  if (parent) rows.push(['Builds on', `${parent.id}  LSN ${parent.startLsn}`])
  if (increment) {
    const { source, reason, changedBlocks, readBytes } = increment
    const read = readBytes === undefined ? '' : `; ${formatBytes(readBytes)} were read`
    rows.push(['Changed', `${formatCount(changedBlocks, 'block')}, known from ${SOURCES[source]}${read}`])
    if (reason !== undefined) rows.push(['', reason])
  }
  if (consolidatedFrom) {
    const [first, last] = [consolidatedFrom[0], consolidatedFrom.at(-1)]
    rows.push(['Put together', `from ${formatCount(consolidatedFrom.length, 'backup')}, ${first} to ${last}`])
  }
  return rows
}
