import { quoteIdentifier, type Server } from '../postgres/server.ts'
import { type Finding, pass, warn } from './finding.ts'

/** What of the functions that only tell of the state, or try it, the role may not do. */
export interface RightsFacts {
  role: string
  /** Functions that it may not call. */
  lacking: string[]
}

/** By whom each is asked for; backups need others, which their method looks for. */
const FUNCTIONS = {
  'pg_switch_wal()': 'check',
  'pg_create_restore_point(text)': 'check',
  'pg_ls_archive_statusdir()': 'status',
}

export async function askRights(server: Server): Promise<RightsFacts> {
  const rows = await server.query<{ name: string }>(
    `SELECT name FROM unnest($1::text[]) AS name
      WHERE to_regprocedure(name) IS NOT NULL AND NOT has_function_privilege(to_regprocedure(name), 'execute')`,
    [Object.keys(FUNCTIONS)],
  )
  return { role: quoteIdentifier(server.user), lacking: rows.map(({ name }) => name) }
}

export function judgeRights({ role, lacking }: RightsFacts): Finding[] {
  const trying = lacking.filter((name) => FUNCTIONS[name as keyof typeof FUNCTIONS] === 'check')
  const telling = lacking.filter((name) => FUNCTIONS[name as keyof typeof FUNCTIONS] === 'status')
  const findings: Finding[] = []
  if (trying.length > 0)
    findings.push(
      warn(
        'archive',
        `the role ${role} may not end a WAL segment, so it cannot be tried whether one arrives`,
        `as a superuser, in the database that pgrecall connects to: GRANT EXECUTE ON FUNCTION ${trying.join(', ')} TO ${role};`,
      ),
    )
  if (telling.length > 0)
    findings.push(
      warn(
        'rights',
        `the role ${role} may not see what waits to be archived, which the data directory tells only on its own host`,
        `as a superuser: GRANT pg_monitor TO ${role};`,
      ),
    )
  return findings.length > 0 ? findings : [pass('rights', 'the role may see and try all that is needed')]
}
