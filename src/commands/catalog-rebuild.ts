import { loadCatalog, saveCatalog } from '../catalog/catalog.ts'
import { formatCount } from '../cli/units.ts'
import type { Run } from './context.ts'

export const run: Run = async (_invocation, context) => {
  const { name } = context.cluster()
  const rebuilt = []
  for (const repository of context.repositories()) {
    const catalog = await loadCatalog(repository.storage, name, { fresh: true })
    await saveCatalog(repository.storage, catalog, context.now())
    for (const { id, reason } of catalog.damaged) {
      context.events.emit('warning', { text: `backup ${id} cannot be read: ${reason}` })
    }
    const segments = catalog.wal.flatMap((wal) => wal.ranges).reduce((sum, range) => sum + range.segments, 0)
    rebuilt.push({
      repository: repository.name,
      backups: catalog.backups.length,
      logical: catalog.logical.length,
      segments,
      damaged: catalog.damaged,
    })
  }
  return {
    text: rebuilt
      .map(
        ({ repository, backups, logical, segments }) =>
          `The catalog in "${repository}" has ${formatCount(backups, 'backup')}, ${formatCount(logical, 'logical backup')} and ${formatCount(segments, 'WAL segment')}.`,
      )
      .join('\n'),
    json: rebuilt,
  }
}
