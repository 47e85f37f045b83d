import { setTimeout as wait } from 'node:timers/promises'
import { updateCatalog } from '../catalog/catalog.ts'
import { claimIdentity } from '../catalog/identity.ts'
import type { Repository } from '../catalog/repository.ts'
import { statWalFile } from '../catalog/wal-object.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { Events } from '../events.ts'
import { switchWal } from '../postgres/low-level-backup.ts'
import type { Server } from '../postgres/server.ts'
import { type Finding, fail, pass, warn } from './finding.ts'
import type { LookOverQuestion } from './question.ts'

const SUBJECT = 'archive'

/**
 * The proof that archiving works: a segment that is ended now, and arrives in the repositories.
 * @param repositories those that can be written; what does not arrive in an optional one is a warning
 */
export async function seeSegmentArrive(
  repositories: readonly Repository[],
  timeoutSeconds: number,
  question: LookOverQuestion,
  events: Events,
): Promise<Finding[]> {
  try {
    await using server = await question.connect()
    return await tryArchive(server, repositories, timeoutSeconds, question, events)
  } catch (error) {
    question.signal.throwIfAborted()
    return [fail(SUBJECT, reasonOf(error), error instanceof PgrecallError ? error.hint : undefined)]
  }
}

/** Whether a segment that is ended can arrive. @param findings of the server and of archiving, which tell why not */
export function mayArrive(findings: readonly Finding[]): boolean {
  const told = ({ verdict, subject }: Finding) =>
    verdict === 'fail' ? STOPPING.has(subject) : verdict === 'warn' && UNTRIED.has(subject)
  return !findings.some(told)
}

/** Where archiving is off and need not be on, and where the role may not end a segment. */
const UNTRIED = new Set(['archive_mode', SUBJECT])
const STOPPING = new Set([...UNTRIED, 'archive_command'])

/** What a standby cannot have tried. */
export const standbySegment = () =>
  warn(
    SUBJECT,
    'a standby ends no segment; whether WAL arrives can only be tried at its primary',
    'run pgrecall check there',
  )

async function tryArchive(
  server: Server,
  repositories: readonly Repository[],
  timeoutSeconds: number,
  { cluster, now, signal }: LookOverQuestion,
  events: Events,
): Promise<Finding[]> {
  const warnings: Finding[] = []
  /** Those in which it works; one that is optional may not be among them. */
  const wellIn = async (those: readonly Repository[], work: (repository: Repository) => Promise<void>) => {
    const well: Repository[] = []
    for (const repository of those) {
      try {
        await work(repository)
        well.push(repository)
      } catch (error) {
        signal.throwIfAborted()
        if (repository.required) throw error
        warnings.push(warn(SUBJECT, reasonOf(error), error instanceof PgrecallError ? error.hint : undefined))
      }
    }
    return well
  }
  const facts = await server.facts()
  const claimed = await wellIn(repositories, ({ storage }) => claimIdentity(storage, cluster, facts))
  const begun = performance.now()
  const segment = await switchWal(server, 'pgrecall check')
  events.emit('step', { text: `Waiting for WAL segment ${segment} in the archive` })
  const stored = await wellIn(claimed, async (repository) => {
    while (!(await statWalFile(repository, cluster, segment))) {
      if (performance.now() - begun > timeoutSeconds * 1000)
        throw await notSeen(server, segment, repository.name, timeoutSeconds)
      await wait(100, undefined, { signal })
    }
  })
  const seconds = ((performance.now() - begun) / 1000).toFixed(1)
  for (const { storage } of stored) await updateCatalog(storage, cluster, now())
  return [pass(SUBJECT, `segment ${segment} was switched and is stored, after ${seconds} s`), ...warnings]
}

async function notSeen(
  server: Server,
  segment: string,
  repository: string,
  seconds: number,
): Promise<PgrecallError> {
  const row = await server.one<{ failed: string | null; at: string | null }>(
    'SELECT last_failed_wal AS failed, last_failed_time::text AS at FROM pg_stat_archiver',
  )
  const failing = row.failed ? `; the archiver last failed at ${row.at} with ${row.failed}` : ''
  return new PgrecallError(
    'failed',
    `segment ${segment} did not arrive in "${repository}" within ${seconds} s${failing}`,
    {
      hint: "look into the server's log for what archive_command said",
    },
  )
}
