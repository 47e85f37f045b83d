import { type Catalog, loadCatalog } from '../catalog/catalog.ts'
import { walWithBackups } from '../catalog/catalog-file.ts'
import { type DroppedWal, droppedAtEnd, walGaps } from '../catalog/wal-ranges.ts'
import { renderTable } from '../cli/table.ts'
import { formatBytes } from '../cli/units.ts'
import type { CommandContext, Run } from './context.ts'

export const run: Run = async (_invocation, context) => {
  const { name } = context.cluster()
  const found = []
  for (const repository of context.repositories()) {
    const catalog = await loadCatalog(repository.storage, name, { believingWalAt: context.now() })
    found.push({ repository: repository.name, location: repository.storage.location, catalog })
  }
  return {
    text: found
      .map(
        ({ repository, location, catalog }) =>
          `Cluster "${name}" in repository "${repository}" (${location})\n\n${catalogText(catalog, context)}`,
      )
      .join('\n\n'),
    json: found.map(({ repository, catalog: { walListedAt: _bookkeeping, ...catalog } }) => ({
      repository,
      ...catalog,
      wal: walWithBackups(catalog),
      gaps: walGaps(catalog.wal, catalog.walSegmentBytes),
    })),
  }
}

function catalogText(catalog: Catalog, { view }: CommandContext): string {
  const sections = [backupTable(catalog, view), walTable(catalog, view)]
  const gaps = walGaps(catalog.wal, catalog.walSegmentBytes)
  if (gaps.length > 0) {
    const lines = gaps.map((gap) => `  timeline ${gap.timeline}: ${stretchText(gap)}${whyText(gap.dropped)}`)
    sections.push(`The archive has holes; no recovery goes across them:\n${lines.join('\n')}`)
  }
  for (const given of catalog.wal.flatMap(droppedAtEnd))
    sections.push(`The archive does not go on: ${stretchText(given)}${whyText([given])}`)
  for (const { id, reason } of catalog.damaged) sections.push(`Backup ${id} cannot be read: ${reason}`)
  return sections.join('\n\n')
}

const stretchText = ({ first, last, segments }: Pick<DroppedWal, 'first' | 'last' | 'segments'>) =>
  segments === 1 ? `${first} (1 segment)` : `${first} to ${last} (${segments} segments)`

/** A gap without a note is one that somebody made, or that waits for a segment that is late. */
function whyText(dropped: readonly DroppedWal[] = []): string {
  return dropped
    .map(({ since, reason }) => `, given up at ${since.replace(/\.\d+Z$/, 'Z')}: ${reason}`)
    .join('')
}

function backupTable(catalog: Catalog, view: CommandContext['view']): string {
  if (catalog.backups.length === 0) return 'No backups yet; "pgrecall backup" takes one.'
  const hasDamage = catalog.backups.some((backup) => backup.damagedPages)
  return renderTable(
    [
      { title: 'Backup', style: 'bold' },
      { title: 'Method' },
      { title: 'Restorable from' },
      { title: 'Timeline', align: 'right' },
      { title: 'Data', align: 'right' },
      { title: 'Stored', align: 'right' },
      { title: 'WAL' },
      ...(hasDamage ? [{ title: 'Damaged pages', align: 'right' as const }] : []),
      { title: 'Label' },
    ],
    catalog.backups.map((backup) => [
      backup.id,
      backup.method,
      backup.stop.time.replace(/\.\d+Z$/, 'Z'),
      String(backup.timeline),
      formatBytes(backup.dataBytes),
      formatBytes(backup.storedBytes),
      backup.standalone ? 'included' : 'archive',
      ...(hasDamage ? [backup.damagedPages ? String(backup.damagedPages) : '-'] : []),
      backup.label,
    ]),
    view,
  )
}

function walTable(catalog: Catalog, view: CommandContext['view']): string {
  const rows = catalog.wal.flatMap(({ timeline, ranges }) =>
    ranges.map((range) => [
      String(timeline),
      range.first,
      range.last,
      String(range.segments),
      formatBytes(range.storedBytes),
      range.newestStoredAt.replace(/\.\d+Z$/, 'Z'),
    ]),
  )
  if (rows.length === 0) return 'No WAL in the archive.'
  return renderTable(
    [
      { title: 'Timeline', align: 'right' },
      { title: 'First WAL' },
      { title: 'Last WAL' },
      { title: 'Segments', align: 'right' },
      { title: 'Stored', align: 'right' },
      { title: 'Newest stored at' },
    ],
    rows,
    view,
  )
}
