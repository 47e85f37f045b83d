import type { Server } from '../postgres/server.ts'
import { type Finding, fail, pass, warn } from './finding.ts'

/** What of the server's settings backups stand on. */
export interface SettingFacts {
  version: number
  inRecovery: boolean
  /** By name, in the units of `pg_settings`; without those that this version does not have. */
  settings: ReadonlyMap<string, string>
  /** As the primary has it, by the last checkpoint. */
  fullPageWrites: boolean
  /** Recovery targets that are set, and the file that sets them, where the role may know. */
  targets: { name: string; file: string | undefined }[]
}

const NAMES = ['wal_level', 'fsync', 'data_checksums', 'summarize_wal', 'data_directory']

export async function askSettings(server: Server): Promise<SettingFacts> {
  const rows = await server.query<{ name: string; setting: string; file: string | null }>(
    `SELECT name, setting, sourcefile AS file FROM pg_settings
      WHERE name = ANY ($1) OR name ~ '^recovery_target(_(time|lsn|xid|name))?$' AND setting <> ''`,
    [NAMES],
  )
  const row = await server.one<{ version: number; recovering: boolean; fullPageWrites: boolean }>(
    `SELECT current_setting('server_version_num')::int AS version, pg_is_in_recovery() AS recovering,
            CASE WHEN pg_is_in_recovery() THEN full_page_writes ELSE current_setting('full_page_writes')::bool END AS "fullPageWrites"
       FROM pg_control_checkpoint()`,
  )
  return {
    version: row.version,
    inRecovery: row.recovering,
    settings: new Map(rows.map(({ name, setting }) => [name, setting])),
    fullPageWrites: row.fullPageWrites,
    targets: rows
      .filter(({ name }) => name.startsWith('recovery_target'))
      .map(({ name, file }) => ({ name, file: file ?? undefined })),
  }
}

/** What is asked of the server's settings by the way in which it is backed up. */
export interface SettingNeeds {
  /** Whether its WAL is to be archived. */
  archived: boolean
  /** Of a method that can build upon another backup, how a backup is taken without summaries; undefined of others. */
  withoutSummaries: string | undefined
}

/** Pure, as all judgements. */
export function judgeSettings(facts: SettingFacts, needs: SettingNeeds): Finding[] {
  const { settings, inRecovery } = facts
  const findings: Finding[] = []
  if (settings.get('wal_level') === 'minimal' && needs.archived)
    findings.push(
      fail(
        'wal_level',
        'wal_level is minimal, with which neither archiving nor a backup of the running server is possible',
        'ALTER SYSTEM SET wal_level = replica; and restart the server',
      ),
    )
  else findings.push(pass('wal_level', `wal_level is ${settings.get('wal_level')}`))
  findings.push(...judgePages(facts))
  if (settings.get('fsync') === 'off')
    findings.push(
      warn(
        'fsync',
        'fsync is off: a crash of this host can damage the cluster, and backups then hold the damage',
        'ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf();',
      ),
    )
  if (settings.get('data_checksums') === 'on') findings.push(pass('data checksums', 'data checksums are on'))
  else
    findings.push(
      warn(
        'data checksums',
        'data checksums are off, so a page that the disk damaged is not noticed',
        checksumsHint(facts),
      ),
    )
  if (needs.withoutSummaries !== undefined && settings.get('summarize_wal') === 'off')
    findings.push(
      warn(
        'summarize_wal',
        `summarize_wal is off, so ${needs.withoutSummaries}`,
        'ALTER SYSTEM SET summarize_wal = on; SELECT pg_reload_conf();',
      ),
    )
  findings.push(...facts.targets.map((target) => leftTarget(target, inRecovery)))
  return findings
}

/** While a primary is backed up it writes whole pages of itself; a standby cannot have that of its primary. */
function judgePages({ fullPageWrites, inRecovery }: SettingFacts): Finding[] {
  if (fullPageWrites) return [pass('full_page_writes', 'full_page_writes is on')]
  const hint = 'ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf();'
  return [
    inRecovery
      ? fail(
          'full_page_writes',
          'full_page_writes is off at the primary, so no backup of a standby is possible',
          `at the primary: ${hint}`,
        )
      : warn(
          'full_page_writes',
          'full_page_writes is off: a crash of this host can leave torn pages, and single databases cannot be restored from a backup',
          hint,
        ),
  ]
}

function checksumsHint({ version, settings }: SettingFacts): string {
  if (version < 120_000) return 'a new cluster can have them: initdb --data-checksums'
  return `while the server is shut down: pg_checksums --enable -D ${settings.get('data_directory') ?? '$PGDATA'}`
}

/** Of a recovery that is over. `pgrecall restore` takes it away; who restores by hand would end at the old target again. */
function leftTarget({ name, file }: SettingFacts['targets'][number], inRecovery: boolean): Finding {
  const text = inRecovery
    ? `${name} is set, so this standby ends its replay there`
    : `${name} is left from an earlier recovery: a standby or a restore by hand would end there`
  const isAuto = file === undefined || file.endsWith('/postgresql.auto.conf')
  return warn('recovery target', text, isAuto ? `ALTER SYSTEM RESET ${name};` : `remove ${name} from ${file}`)
}
