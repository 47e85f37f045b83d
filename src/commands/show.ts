import { type BackupRecord, readBackupRecord } from '../catalog/backup-record.ts'
import { newestBackup } from '../catalog/catalog.ts'
import { requireRepository } from '../catalog/identity.ts'
import type { KeptPin } from '../catalog/kept-pin.ts'
import { backupPrefix, isBackupId, isLogicalId } from '../catalog/layout.ts'
import { readLogicalRecord } from '../catalog/logical-record.ts'
import type { Repository } from '../catalog/repository.ts'
import { renderTable } from '../cli/table.ts'
import { formatBytes, formatCount } from '../cli/units.ts'
import { PgrecallError } from '../errors.ts'
import { chainFacts, chainText, originRows, type ShownChain, shownChain } from './chain-text.ts'
import type { CommandContext, Outcome, Run } from './context.ts'
import { blocksText } from './damage-text.ts'
import { pinFacts, pinsInForce, pinText } from './pin-text.ts'
import { showLogical } from './show-logical.ts'

/** What the copy found out about the cluster's pages. */
function pagesText({ dataChecksums, damagedPages }: BackupRecord): string {
  if (!dataChecksums) return 'off, so nothing was checked'
  if (damagedPages === undefined) return 'on, not checked'
  return damagedPages === 0
    ? 'on, all pages were right'
    : `on, ${formatCount(damagedPages, 'page')} ${damagedPages === 1 ? 'was' : 'were'} wrong`
}

export const run: Run = async ({ args, options }, context) => {
  const { name } = context.cluster()
  const asked = args[0] ?? 'latest'
  for (const repository of context.repositories()) {
    const id = asked === 'latest' ? await newestBackup(repository.storage, name) : asked
    const shown = id === undefined ? undefined : await show(repository, name, id, options, context)
    if (shown) return shown
  }
  // A folder that is not mounted has no backup either.
  for (const { storage } of context.repositories()) await requireRepository(storage)
  throw new PgrecallError(
    'absent',
    asked === 'latest' ? `cluster "${name}" has no backup yet` : `there is no backup ${asked}`,
    {
      hint:
        asked === 'latest'
          ? 'take one with "pgrecall backup"'
          : '"pgrecall list" shows the backups that there are',
    },
  )
}

/** A backup of either kind. @returns undefined where the repository has none of that id */
async function show(
  repository: Repository,
  cluster: string,
  id: string,
  options: Record<string, unknown>,
  context: CommandContext,
): Promise<Outcome | undefined> {
  const { name, storage } = repository
  const folder = `${storage.location}/${backupPrefix(cluster, id)}`
  const pins = isBackupId(id) ? await pinsInForce(storage, cluster, context.now(), id) : []
  if (isLogicalId(id)) {
    const record = await readLogicalRecord(storage, cluster, id)
    return record && showLogical(repository, record, options, folder, pins, context)
  }
  const record = await readBackupRecord(storage, cluster, id)
  if (!record) return undefined
  if (options.contents)
    throw new PgrecallError('usage', `--contents is of logical backups, and ${id} is a physical one`)
  const chain = await shownChain(storage, record)
  return {
    text: recordText(record, chain, name, folder, pins, context),
    json: { repository: name, ...record, pins: pins.map(pinFacts), chain: chainFacts(chain) },
  }
}

const clusterText = ({ clusterBytes }: BackupRecord) =>
  clusterBytes === undefined ? '' : `, of a cluster of ${formatBytes(clusterBytes)}`

function recordText(
  record: BackupRecord,
  chain: ShownChain,
  repository: string,
  folder: string,
  pins: readonly KeptPin[],
  { view }: CommandContext,
): string {
  const facts: [string, string][] = [
    ['Backup', record.id],
    ['Cluster', `${record.cluster} (system identifier ${record.systemIdentifier})`],
    ['Repository', `${repository}, ${folder}`],
    ['Label', record.label || '-'],
    ...pins.map((pin): [string, string] => ['Pinned', pinText(pin)]),
    ['PostgreSQL', record.postgres.text],
    ['Type', `${record.type}, method ${record.method}, ${record.codec}`],
    ...originRows(record),
    ...(record.recipients
      ? [
          ['Encrypted', `for ${formatCount(record.recipients.length, 'public key')}`] satisfies [
            string,
            string,
          ],
        ]
      : []),
    ['Started', `${record.start.time}  LSN ${record.start.lsn}  WAL ${record.start.walFile}`],
    ['Consistent', `${record.stop.time}  LSN ${record.stop.lsn}  WAL ${record.stop.walFile}`],
    ['Timeline', String(record.timeline)],
    ...(record.fromStandby ? [['Taken from', 'a standby'] satisfies [string, string]] : []),
    ['WAL', record.standalone ? 'included (standalone)' : 'in the archive'],
    [
      'Data',
      `${formatBytes(record.dataBytes)} in ${formatCount(record.files, 'file')}${clusterText(record)}`,
    ],
    ['Page checksums', pagesText(record)],
    ...record.damaged.map(({ path, pages, blocks }): [string, string] => [
      'Damaged',
      `${path}: ${blocksText(blocks, pages)}`,
    ]),
    ['Stored', `${formatBytes(record.storedBytes)} in ${formatCount(record.objects.length, 'object')}`],
    ['By hand', `${folder}RESTORE.txt`],
    ...record.tablespaces.map(({ name, oid, location, bytes }): [string, string] => [
      'Tablespace',
      `${name} (${oid}) at ${location}, ${formatBytes(bytes)}`,
    ]),
    ...record.outsideFiles.map((file): [string, string] => ['Not included', file]),
    ...record.warnings.map((text): [string, string] => ['Warning', text]),
  ]
  const table = renderTable(
    [{ title: 'Object' }, { title: 'Kind' }, { title: 'Stored', align: 'right' }, { title: 'SHA-256' }],
    record.objects.map(({ name, kind, bytes, sha256 }) => [
      name,
      kind,
      formatBytes(bytes),
      `${sha256.slice(0, 16)}…`,
    ]),
    view,
  )
  const list = renderTable(
    [
      { title: '', style: 'bold', whole: true },
      { title: '', wraps: true },
    ],
    facts.map(([title, text]) => [title, text]),
    view,
  )
  return [list.trimStart(), chainText(chain, view), table].filter((part) => part !== '').join('\n\n')
}
