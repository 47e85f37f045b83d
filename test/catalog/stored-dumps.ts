import { randomBytes } from 'node:crypto'
import { storeRecord, storeText } from '../../src/catalog/commit-backup.ts'
import { backupPrefix } from '../../src/catalog/layout.ts'
import { logicalRestoreText } from '../../src/catalog/logical-hand-restore.ts'
import type { LogicalObject, LogicalRecord, LogicalSummary } from '../../src/catalog/logical-record.ts'
import { putObject } from '../../src/catalog/put-object.ts'
import type { Repository } from '../../src/catalog/repository.ts'
import { dumpedDatabase, logicalSummary } from './stored.ts'

/** What two dumps hold, as `contents.jsonl` has it. */
export const CONTENTS = [
  { database: 'shop', type: 'TABLE', schema: 'public', name: 'orders', owner: 'alice' },
  { database: 'shop', type: 'TABLE DATA', schema: 'public', name: 'orders', owner: 'alice' },
  { database: 'crm', type: 'TABLE', schema: 'sales', name: 'leads', owner: 'bob' },
]

/** Stores a logical backup of two databases as `backup` does, encrypted where the repository is; its dumps are no archives. */
export async function storeDumps(
  repository: Repository,
  id: string,
  facts: Partial<LogicalSummary> = {},
): Promise<LogicalRecord> {
  const folder = backupPrefix('main', id)
  const { storage, keys } = repository
  const put = async (
    name: string,
    bytes: Buffer,
    more: Pick<LogicalObject, 'kind' | 'database' | 'archive'>,
  ) => ({ ...(await putObject(storage, folder, name, [bytes], { sealer: keys.sealer })), ...more })
  const contents = Buffer.from(CONTENTS.map((entry) => `${JSON.stringify(entry)}\n`).join(''))
  const objects: LogicalObject[] = [
    await put('globals.sql', Buffer.from('CREATE ROLE alice;\n'), { kind: 'globals' }),
    await put('shop.dump', randomBytes(300_000), { kind: 'dump', database: '16384', archive: 'custom' }),
    await put('crm.dump', randomBytes(200_000), { kind: 'dump', database: '16385', archive: 'custom' }),
    await put('contents.jsonl', contents, { kind: 'contents' }),
  ]
  const {
    storedBytes: _bytes,
    finishedAt,
    ...summary
  } = logicalSummary(id, {
    systemIdentifier: '42',
    codec: 'none',
    databases: [dumpedDatabase('shop', { oid: '16384' }), dumpedDatabase('crm', { oid: '16385' })],
    ...(keys.sealer && { recipients: [...keys.sealer.recipients] }),
    ...facts,
  })
  const draft = { ...summary, objects }
  const text = await storeText(storage, folder, logicalRestoreText(draft))
  const whole = { ...draft, objects: [...objects, { ...text, kind: 'text' as const }] }
  return storeRecord(storage, folder, whole, new Date(finishedAt))
}
