import { type BackupRecord, readBackupRecord } from '../catalog/backup-record.ts'
import { newestBackup } from '../catalog/catalog.ts'
import { requireRepository } from '../catalog/identity.ts'
import { backupPrefix } from '../catalog/layout.ts'
import { renderTable } from '../cli/table.ts'
import { formatBytes, formatCount } from '../cli/units.ts'
import { PgrecallError } from '../errors.ts'
import { chainFacts, chainText, originRows, type ShownChain, shownChain } from './chain-text.ts'
import type { CommandContext, Run } from './context.ts'
import { blocksText } from './damage-text.ts'

/** What the copy found out about the cluster's pages. */
function pagesText({ dataChecksums, damagedPages }: BackupRecord): string {
  if (!dataChecksums) return 'off, so nothing was checked'
  if (damagedPages === undefined) return 'on, not checked'
  return damagedPages === 0
    ? 'on, all pages were right'
    : `on, ${formatCount(damagedPages, 'page')} ${damagedPages === 1 ? 'was' : 'were'} wrong`
}

export const run: Run = async ({ args }, context) => {
  const { name } = context.cluster()
  const asked = args[0] ?? 'latest'
  for (const { name: repository, storage } of context.repositories()) {
    const id = asked === 'latest' ? await newestBackup(storage, name) : asked
    const record = id === undefined ? undefined : await readBackupRecord(storage, name, id)
    if (!record) continue
    const folder = `${storage.location}/${backupPrefix(name, record.id)}`
    const chain = await shownChain(storage, record)
    return {
      text: recordText(record, chain, repository, folder, context),
      json: { repository, ...record, chain: chainFacts(chain) },
    }
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

const clusterText = ({ clusterBytes }: BackupRecord) =>
  clusterBytes === undefined ? '' : `, of a cluster of ${formatBytes(clusterBytes)}`

function recordText(
  record: BackupRecord,
  chain: ShownChain,
  repository: string,
  folder: string,
  { view }: CommandContext,
): string {
  const facts: [string, string][] = [
    ['Backup', record.id],
    ['Cluster', `${record.cluster} (system identifier ${record.systemIdentifier})`],
    ['Repository', `${repository}, ${folder}`],
    ['Label', record.label || '-'],
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
    [{ title: '', style: 'bold' }, { title: '' }],
    facts.map(([title, text]) => [title, text]),
    { ...view, width: Number.POSITIVE_INFINITY },
  )
  return [list.trimStart(), chainText(chain, view), table].filter((part) => part !== '').join('\n\n')
}
