import { type Environment, findProgram, type Program } from '../postgres/client-programs.ts'
import { findPgBasebackup } from '../postgres/pg-basebackup.ts'
import { findPgReceivewal } from '../postgres/pg-receivewal.ts'
import { type Finding, fail, pass, warn } from './finding.ts'

/** Which programs this cluster's backups need, of which version. */
export interface ProgramNeeds {
  /** The server's; undefined where nothing tells it. */
  major: number | undefined
  method: string
  /** Whether dumps are taken. */
  dumps: boolean
  /** Whether `wal-receive` is used, and does not run now, on whatever host. */
  receives: boolean
}

/** @param node the version of Node that runs this, `24.1.0` */
export async function checkPrograms(needs: ProgramNeeds, env: Environment, node: string): Promise<Finding[]> {
  const { major, method, dumps, receives } = needs
  const findings = [judgeNode(node)]
  if (major === undefined)
    return [
      ...findings,
      warn('programs', "the server's version is not known, so its programs were not looked for"),
    ]
  if (method === 'stream') findings.push(judgeBasebackup(await findPgBasebackup(major, env), major))
  if (receives) {
    const program = await findPgReceivewal(major, env).catch(() => undefined)
    const finding = judgeProgram('pg_receivewal', program, major, 'wal-receive')
    // It may be another host that receives.
    findings.push(finding.verdict === 'fail' ? { ...finding, verdict: 'warn' } : finding)
  }
  if (dumps)
    for (const name of ['pg_dump', 'pg_dumpall', 'pg_restore'])
      findings.push(judgeProgram(name, await findProgram(name, major, env), major, 'logical backups'))
  return findings
}

/** The first that knows zstd. */
const LEAST_NODE = [22, 15] as const

export function judgeNode(version: string): Finding {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const isEnough = major > LEAST_NODE[0] || (major === LEAST_NODE[0] && minor >= LEAST_NODE[1])
  if (isEnough) return pass('programs', `Node ${version}`)
  return fail(
    'programs',
    `Node ${version} is older than ${LEAST_NODE.join('.')}`,
    'install Node 24, or run npm ci',
  )
}

/** Without it the replication protocol is spoken without its help. */
function judgeBasebackup(program: Program | undefined, major: number): Finding {
  return pass(
    'programs',
    program
      ? `pg_basebackup ${program.majorVersion}`
      : `no pg_basebackup of ${major} or later, and none is needed`,
  )
}

export function judgeProgram(
  name: string,
  program: Program | undefined,
  major: number,
  what: string,
): Finding {
  if (program) return pass('programs', `${name} ${program.majorVersion}`)
  return fail(
    'programs',
    `${what} ${what.endsWith('s') ? 'need' : 'needs'} ${name} of PostgreSQL ${major} or later, and none was found`,
    `apt-get install postgresql-client-${major}, or put the folder of PostgreSQL's client programs on PATH`,
  )
}
