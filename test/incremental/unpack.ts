import { join } from 'node:path'
import { execa } from 'execa'
import { backupFolder, readRecord, type StoredRecord } from '../crash/repository.ts'
import { cleanEnvironment } from '../lab/environment.ts'
import type { Lab } from '../lab/lab.ts'
import { asLabUser } from '../lab/user.ts'

/**
 * Unpacks a backup as a person does, with tar, zstd and age, and puts each tablespace into a folder of `pg_tblspc`,
 * where PostgreSQL's programs take it for what its own tests call an in-place tablespace.
 *
 * @returns the folder, which belongs to the lab's user
 */
export async function unpack(lab: Lab, id: string, name: string): Promise<string> {
  const folder = await lab.scratch.folder(name)
  const record = await readRecord(lab, id)
  const script = record.objects.map((object) => unpacking(lab, id, object)).filter((line) => line !== '')
  await execa('sh', ['-euc', script.join('\n')], {
    ...asLabUser,
    cwd: folder,
    env: cleanEnvironment(lab.scratch.path),
    extendEnv: false,
  })
  return folder
}

function unpacking(lab: Lab, id: string, { name, kind, group }: StoredRecord['objects'][number]): string {
  const object = join(backupFolder(lab, id), name)
  const opened = name.endsWith('.age')
    ? `age -d -i ${join(lab.scratch.path, 'identity.txt')} ${object}`
    : `cat ${object}`
  const plain = name.replace(/\.age$/, '')
  const decoder = plain.endsWith('.zst') ? 'zstd -dcq' : plain.endsWith('.gz') ? 'gzip -dc' : 'cat'
  if (kind === 'manifest') return `${opened} | ${decoder} > backup_manifest`
  if (kind !== 'shard' || group === 'wal') return ''
  const place = group === 'base' ? '.' : `pg_tblspc/${group}`
  return `mkdir -p ${place}; ${opened} | ${decoder} | tar -x -C ${place}`
}
